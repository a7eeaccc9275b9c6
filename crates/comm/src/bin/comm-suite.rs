//! The test suite of the collectives as a program for `mpirun`, which `tests/processes.rs` starts.
//!
//! Its argument is the number of replicas (threads) in each process.
#![allow(clippy::print_stdout)]

#[path = "../../tests/suite/mod.rs"]
mod suite;

use wgrad_comm::{Collective, Local, Mpi, Nested};

fn main() {
    let replicas: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1);
    if replicas == 1 {
        let mut mpi = Mpi::open().unwrap();
        suite::suite(&mut mpi);
        println!("rank {} of {}: the suite passed", mpi.rank(), mpi.size());
        return;
    }
    let locals = Local::team(replicas);
    std::thread::scope(|scope| {
        for (i, local) in locals.into_iter().enumerate() {
            scope.spawn(move || {
                // MPI is opened, called and closed on one thread.
                let between = (i == 0).then(|| Box::new(Mpi::open().unwrap()) as Box<dyn Collective>);
                let mut nested = Nested::new(local, between).unwrap();
                suite::suite(&mut nested);
                println!("rank {} of {}: the suite passed", nested.rank(), nested.size());
            });
        }
    });
}
