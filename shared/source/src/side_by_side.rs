//! Independent pieces of work on some threads, for what is done before a job has tasks.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Does `work` for each of `0..count` on at most `threads` threads; the results are in that order. Begins nothing
/// more after an error, and gives the one of the lowest number among those that happened.
pub fn side_by_side<T: Send, E: Send>(
    count: usize,
    threads: usize,
    work: impl Fn(usize) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(count));
    let one_after_another = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return;
            }
            let result = work(at);
            if result.is_err() {
                next.store(count, Ordering::Relaxed);
            }
            let mut done = done.lock().unwrap_or_else(|e| e.into_inner());
            done.push((at, result));
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.clamp(1, count.max(1)))
            .map(|_| scope.spawn(one_after_another))
            .collect();
        for worker in workers {
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    let mut done = done.into_inner().unwrap_or_else(|e| e.into_inner());
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_the_first_error_ends_it() {
        for threads in [1, 3, 100] {
            let squares = side_by_side(50, threads, |n| Ok::<_, ()>(n * n));
            assert_eq!(squares, Ok((0..50).map(|n| n * n).collect()));
            assert_eq!(side_by_side(0, threads, |_| Err::<(), _>(())), Ok(vec![]));
            let started = AtomicUsize::new(0);
            let failed = side_by_side(1000, threads, |n| {
                started.fetch_add(1, Ordering::Relaxed);
                if n < 5 { Ok(n) } else { Err(n) }
            });
            assert!(failed.is_err_and(|n| (5..5 + threads).contains(&n)));
            assert!(started.into_inner() <= 6 + 2 * threads);
        }
    }
}
