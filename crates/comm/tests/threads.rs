//! Tests of collectives within one process: the suite, failures of single ranks, and the communication thread.

mod suite;

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use wgrad_comm::{Collective, CommError, Hierarchical, Job, Local, Single, Worker};

/// Runs a function concurrently on every rank of a group. Returns the results in order of rank.
fn on_all<T: Send>(group: Vec<Local>, run: impl Fn(Local) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = group.into_iter().map(|local| scope.spawn(|| run(local))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn suite_passes_on_a_single_replica() {
    suite::run(&mut Single);
}

#[test]
fn suite_passes_on_threads() {
    for n in 1..=4 {
        on_all(Local::group(n), |mut local| suite::run(&mut local));
    }
}

#[test]
fn suite_passes_on_nodes_of_threads() {
    for (nodes, replicas) in [(1, 3), (2, 1), (2, 2), (3, 2)] {
        let leaders = Local::group(nodes);
        std::thread::scope(|scope| {
            for leader in leaders {
                let mut leader = Some(leader);
                for local in Local::group(replicas) {
                    let leader = leader.take().map(|leader| Box::new(leader) as Box<dyn Collective>);
                    scope.spawn(move || suite::run(&mut Hierarchical::new(local, leader).unwrap()));
                }
            }
        });
    }
}

#[test]
fn all_reduce_of_threads_sums_in_rank_order() {
    // In f32 (1 + 2⁻²⁴) + 2⁻²⁴ is 1, but 1 + (2⁻²⁴ + 2⁻²⁴) is larger.
    let small = 2f32.powi(-24);
    let sums = on_all(Local::group(3), |mut local| {
        let mut values = [if local.rank() == 0 { 1.0 } else { small }; 5];
        local.all_reduce(&mut values).unwrap();
        values
    });
    assert_eq!(sums, [[1.0; 5]; 3]);
}

#[test]
fn different_lengths_are_an_error_on_all_ranks() {
    let results = on_all(Local::group(3), |mut local| {
        let mut values = vec![0.0; if local.rank() == 1 { 4 } else { 5 }];
        local.all_reduce(&mut values)
    });
    for result in results {
        let message = result.unwrap_err().to_string();
        assert!(message.contains('4') && message.contains('5'), "{message}");
    }
}

#[test]
fn an_abort_ends_the_waits_of_the_other_ranks() {
    let start = Arc::new(Barrier::new(3));
    let results = on_all(Local::group(3), |mut local| {
        start.wait();
        if local.rank() == 2 {
            local.abort_handle().abort(6, "the disk is full");
            return Ok(());
        }
        local.barrier()
    });
    let expected = CommError::Aborted { rank: 2, code: 6, message: "the disk is full".into() };
    assert_eq!(results, [Err(expected.clone()), Err(expected), Ok(())]);
}

#[test]
fn nodes_with_different_numbers_of_replicas_are_an_error() {
    let leaders = Local::group(2);
    let results: Vec<bool> = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (leader, replicas) in leaders.into_iter().zip([1, 2]) {
            let mut leader = Some(leader);
            for local in Local::group(replicas) {
                let leader = leader.take().map(|leader| Box::new(leader) as Box<dyn Collective>);
                threads.push(scope.spawn(move || Hierarchical::new(local, leader).is_err()));
            }
        }
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(results, [true; 3]);
}

fn workers(n: usize, timeout: Duration) -> Vec<Worker> {
    let start = |local: Local| Worker::start(move || Ok(Box::new(local)), timeout).unwrap();
    Local::group(n).into_iter().map(start).collect()
}

#[test]
fn jobs_run_in_order_of_submission() {
    let sums: Vec<Vec<f32>> = std::thread::scope(|scope| {
        let run = |mut worker: Worker| {
            let value = worker.rank() as f32 + 1.0;
            let first = worker.submit(Job::AllReduce(vec![value; 3])).unwrap();
            let second = worker.submit(Job::AllReduce(vec![10.0 * value; 2])).unwrap();
            let (first, second) = (worker.wait(first).unwrap(), worker.wait(second).unwrap());
            assert!(first.started <= first.ended && first.ended <= second.started);
            let third = worker.submit(Job::Barrier).unwrap();
            let fourth = worker.submit(Job::Barrier).unwrap();
            assert!(
                matches!(worker.wait(fourth), Err(CommError::Usage(_))),
                "waiting out of order should be an error"
            );
            worker.wait(third).unwrap();
            [first.values, second.values].concat()
        };
        let threads: Vec<_> =
            workers(2, Duration::from_secs(60)).into_iter().map(|w| scope.spawn(move || run(w))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(sums, [[3.0, 3.0, 3.0, 30.0, 30.0], [3.0, 3.0, 3.0, 30.0, 30.0]]);
}

#[test]
fn a_missing_rank_is_a_timeout_and_aborts_the_others() {
    let start = Instant::now();
    let mut workers = workers(3, Duration::from_millis(300));
    let mut slow = workers.remove(0);
    slow.set_timeout(Duration::from_secs(60));
    let missing = workers.pop();
    let mut fast = workers.remove(0);
    let waiting = std::thread::spawn(move || slow.barrier());
    let error = fast.barrier().unwrap_err();
    assert!(
        matches!(&error, CommError::Timeout { operation, .. } if operation.contains("barrier")),
        "{error}"
    );
    // The rank with the shorter timeout aborts the group, so the rank with the longer timeout fails too.
    let aborted = waiting.join().unwrap().unwrap_err();
    assert!(matches!(&aborted, CommError::Aborted { rank: 1, code: 7, .. }), "{aborted}");
    drop((fast, missing));
    assert!(start.elapsed() < Duration::from_secs(30), "a rank waited for its own timeout");
}

#[test]
fn start_returns_the_error_of_open() {
    let open = || Err(CommError::Usage("no network".into()));
    let error = Worker::start(open, Duration::from_secs(1)).err();
    assert_eq!(error, Some(CommError::Usage("no network".into())));
}

/// Runs a function on every replica of every node. Returns the result or the panic of each rank, in order of rank.
fn on_nodes<T: Send>(
    nodes: usize,
    replicas: usize,
    run: impl Fn(Hierarchical) -> T + Sync,
) -> Vec<std::thread::Result<T>> {
    let run = &run;
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for leader in Local::group(nodes) {
            let mut leader = Some(Box::new(leader) as Box<dyn Collective>);
            for local in Local::group(replicas) {
                let leader = leader.take();
                threads.push(scope.spawn(move || run(Hierarchical::new(local, leader).unwrap())));
            }
        }
        threads.into_iter().map(|thread| thread.join()).collect()
    })
}

#[test]
fn an_abort_reaches_other_nodes_with_code_and_replica() {
    let outcomes = on_nodes(2, 2, |mut collective| {
        collective.barrier().unwrap();
        if collective.rank() == 3 {
            // This rank is not a leader; meanwhile, the leaders wait for each other.
            collective.abort_handle().abort(5, "test abort");
        }
        collective.all_reduce(&mut [1.0; 10]).unwrap_err()
    });
    for (rank, outcome) in outcomes.into_iter().enumerate() {
        let CommError::Aborted { rank: by, code, message } = outcome.unwrap() else { panic!() };
        assert_eq!(code, 5, "{rank}");
        match rank {
            0 | 1 => assert_eq!((by, message.as_str()), (2, "replica 3: test abort")),
            _ => assert_eq!((by, message.as_str()), (3, "test abort")),
        }
    }
}

#[test]
fn a_panic_reaches_other_nodes() {
    let outcomes = on_nodes(2, 2, |mut collective| {
        assert!(collective.rank() != 1, "test panic");
        collective.barrier()
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
fn a_single_node_needs_no_collective_between_nodes() {
    on_all(Local::group(2), |local| suite::run(&mut Hierarchical::new(local, None).unwrap()));
}

#[test]
fn only_replica_0_may_pass_a_collective_between_nodes() {
    let results = on_all(Local::group(2), |local| {
        Hierarchical::new(local, Some(Box::new(Single))).map(drop).map_err(|error| error.to_string())
    });
    for result in results {
        assert!(result.unwrap_err().contains("replica 1 passes a collective between nodes"));
    }
}

#[test]
fn a_rank_that_exits_is_an_error_for_ranks_that_wait_for_it() {
    let results = on_all(Local::group(3), |mut local| {
        local.barrier()?;
        if local.rank() == 0 { Ok(()) } else { local.barrier() }
    });
    let message = "it exited before completing this call: barrier".into();
    let error = CommError::Aborted { rank: 0, code: 7, message };
    assert_eq!(results, [Ok(()), Err(error.clone()), Err(error)]);
}
