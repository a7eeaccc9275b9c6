//! The suite on one rank, on threads and on nested teams; and what becomes of the others when one fails.

mod suite;

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use wgrad_comm::{Collective, CommError, Job, Local, Nested, Single, Worker};

/// Runs a function on every rank of a team and gives what they return.
fn on_all<T: Send>(team: Vec<Local>, run: impl Fn(Local) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = team.into_iter().map(|local| scope.spawn(|| run(local))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn the_suite_holds_for_one() {
    suite::suite(&mut Single);
}

#[test]
fn the_suite_holds_for_threads() {
    for n in 1..=4 {
        on_all(Local::team(n), |mut local| suite::suite(&mut local));
    }
}

#[test]
fn the_suite_holds_for_nested_teams() {
    for (nodes, replicas) in [(1, 3), (2, 1), (2, 2), (3, 2)] {
        let between = Local::team(nodes);
        std::thread::scope(|scope| {
            for outer in between {
                let mut outer = Some(outer);
                for inner in Local::team(replicas) {
                    let outer = outer.take().map(|outer| Box::new(outer) as Box<dyn Collective>);
                    scope.spawn(move || suite::suite(&mut Nested::new(inner, outer).unwrap()));
                }
            }
        });
    }
}

#[test]
fn sums_of_threads_are_in_the_order_of_the_ranks() {
    // In f32 the order decides: (1 + 2⁻²⁴) + 2⁻²⁴ is 1, but 2⁻²⁴ + 2⁻²⁴ first would give more.
    let small = 2f32.powi(-24);
    let sums = on_all(Local::team(3), |mut local| {
        let mut values = [if local.rank() == 0 { 1.0 } else { small }; 5];
        local.all_reduce(&mut values).unwrap();
        values
    });
    assert_eq!(sums, [[1.0; 5]; 3]);
}

#[test]
fn different_questions_are_an_error_for_all() {
    let results = on_all(Local::team(3), |mut local| {
        let mut values = vec![0.0; if local.rank() == 1 { 4 } else { 5 }];
        local.all_reduce(&mut values)
    });
    for result in results {
        let message = result.unwrap_err().to_string();
        assert!(message.contains('4') && message.contains('5'), "{message}");
    }
}

#[test]
fn one_that_aborts_ends_the_waiting_of_the_others() {
    let start = Arc::new(Barrier::new(3));
    let results = on_all(Local::team(3), |mut local| {
        start.wait();
        if local.rank() == 2 {
            local.abort().call(6, "the disk is full");
            return Ok(());
        }
        local.barrier()
    });
    let expected = CommError::Aborted { rank: 2, code: 6, message: "the disk is full".into() };
    assert_eq!(results, [Err(expected.clone()), Err(expected), Ok(())]);
}

#[test]
fn nodes_with_different_numbers_of_replicas_are_refused() {
    let between = Local::team(2);
    let results: Vec<bool> = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (outer, replicas) in between.into_iter().zip([1, 2]) {
            let mut outer = Some(outer);
            for inner in Local::team(replicas) {
                let outer = outer.take().map(|outer| Box::new(outer) as Box<dyn Collective>);
                threads.push(scope.spawn(move || Nested::new(inner, outer).is_err()));
            }
        }
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(results, [true; 3]);
}

fn workers(n: usize, timeout: Duration) -> Vec<Worker> {
    let start = |local: Local| Worker::start(move || Ok(Box::new(local)), timeout).unwrap();
    Local::team(n).into_iter().map(start).collect()
}

#[test]
fn jobs_run_in_order_beside_their_thread() {
    let sums: Vec<Vec<f32>> = std::thread::scope(|scope| {
        let run = |mut worker: Worker| {
            let own = worker.rank() as f32 + 1.0;
            let first = worker.submit(Job::AllReduce(vec![own; 3])).unwrap();
            let second = worker.submit(Job::AllReduce(vec![10.0 * own; 2])).unwrap();
            let (first, second) = (worker.wait(first).unwrap(), worker.wait(second).unwrap());
            assert!(first.started <= first.ended && first.ended <= second.started);
            let late = worker.submit(Job::Barrier).unwrap();
            let later = worker.submit(Job::Barrier).unwrap();
            assert!(matches!(worker.wait(later), Err(CommError::Usage(_))), "tickets have an order");
            worker.wait(late).unwrap();
            [first.values, second.values].concat()
        };
        let threads: Vec<_> =
            workers(2, Duration::from_secs(60)).into_iter().map(|w| scope.spawn(move || run(w))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(sums, [[3.0, 3.0, 3.0, 30.0, 30.0], [3.0, 3.0, 3.0, 30.0, 30.0]]);
}

#[test]
fn one_that_never_comes_is_a_timeout_that_ends_the_others() {
    let begun = Instant::now();
    let mut workers = workers(3, Duration::from_millis(300));
    let mut patient = workers.remove(0);
    patient.set_timeout(Duration::from_secs(60));
    let late = workers.pop();
    let mut other = workers.remove(0);
    let waiting = std::thread::spawn(move || patient.barrier());
    let error = other.barrier().unwrap_err();
    assert!(matches!(&error, CommError::Timeout { what, .. } if what.contains("barrier")), "{error}");
    // The one with more patience is told.
    let told = waiting.join().unwrap().unwrap_err();
    assert!(matches!(&told, CommError::Aborted { rank: 1, code: 7, .. }), "{told}");
    drop((other, late));
    assert!(begun.elapsed() < Duration::from_secs(30), "nobody waits for ever");
}

#[test]
fn a_collective_that_cannot_be_opened_says_why() {
    let refused = || Err(CommError::Usage("no network".into()));
    let error = Worker::start(refused, Duration::from_secs(1)).err();
    assert_eq!(error, Some(CommError::Usage("no network".into())));
}

/// What each member of each team comes to, or nothing where it panicked.
fn in_teams<T: Send>(
    teams: usize,
    members: usize,
    run: impl Fn(Nested) -> T + Sync,
) -> Vec<std::thread::Result<T>> {
    let run = &run;
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for outer in Local::team(teams) {
            let mut outer = Some(Box::new(outer) as Box<dyn Collective>);
            for inner in Local::team(members) {
                let outer = outer.take();
                threads.push(scope.spawn(move || run(Nested::new(inner, outer).unwrap())));
            }
        }
        threads.into_iter().map(|thread| thread.join()).collect()
    })
}

#[test]
fn an_abort_reaches_other_teams_with_its_code_and_names_the_replica() {
    let outcomes = in_teams(2, 2, |mut nested| {
        nested.barrier().unwrap();
        if nested.rank() == 3 {
            // Not a leader, and the leaders are waiting for each other.
            nested.abort().call(5, "no more");
        }
        nested.all_reduce(&mut [1.0; 10]).unwrap_err()
    });
    for (rank, outcome) in outcomes.into_iter().enumerate() {
        let CommError::Aborted { rank: by, code, message } = outcome.unwrap() else { panic!() };
        assert_eq!(code, 5, "{rank}");
        match rank {
            0 | 1 => assert_eq!((by, message.as_str()), (2, "replica 3: no more")),
            _ => assert_eq!((by, message.as_str()), (3, "no more")),
        }
    }
}

#[test]
fn a_panic_reaches_other_teams() {
    let outcomes = in_teams(2, 2, |mut nested| {
        assert!(nested.rank() != 1, "on purpose");
        nested.barrier()
    });
    for (rank, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Err(_) => assert_eq!(rank, 1),
            Ok(result) => {
                let error = result.unwrap_err();
                assert!(matches!(error, CommError::Aborted { code: 101, .. }), "rank {rank}: {error:?}");
            }
        }
    }
}

#[test]
fn one_team_alone_needs_nobody_between() {
    on_all(Local::team(2), |local| suite::suite(&mut Nested::new(local, None).unwrap()));
}

#[test]
fn only_a_leader_may_speak_for_its_team() {
    let results = on_all(Local::team(2), |local| {
        Nested::new(local, Some(Box::new(Single))).map(drop).map_err(|error| error.to_string())
    });
    for result in results {
        assert!(result.unwrap_err().contains("replica 1 brings a rank"));
    }
}

#[test]
fn one_that_leaves_is_missed_by_those_who_still_need_it() {
    let results = on_all(Local::team(3), |mut local| {
        local.barrier()?;
        if local.rank() == 0 { Ok(()) } else { local.barrier() }
    });
    let missed =
        CommError::Aborted { rank: 0, code: 7, message: "it has left, and was needed for a barrier".into() };
    assert_eq!(results, [Ok(()), Err(missed.clone()), Err(missed)]);
}
