//! Runs the test suite of collectives under mpirun; started by `tests/processes.rs`. The argument is the number of
//! replicas in each process.
#![allow(clippy::print_stdout)]

#[path = "../../tests/suite/mod.rs"]
mod suite;

use wgrad_comm::{Collective, Hierarchical, Local, Mpi};

fn main() {
    let replicas: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1);
    if replicas == 1 {
        let mut mpi = Mpi::open().unwrap();
        suite::run(&mut mpi);
        println!("rank {} of {}: suite passed", mpi.rank(), mpi.size());
        return;
    }
    let locals = Local::group(replicas);
    std::thread::scope(|scope| {
        for (i, local) in locals.into_iter().enumerate() {
            scope.spawn(move || {
                // MPI must be opened, called and closed on one thread.
                let leaders = (i == 0).then(|| Box::new(Mpi::open().unwrap()) as Box<dyn Collective>);
                let mut collective = Hierarchical::new(local, leaders).unwrap();
                suite::run(&mut collective);
                println!("rank {} of {}: suite passed", collective.rank(), collective.size());
            });
        }
    });
}
