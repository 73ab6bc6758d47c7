//! Named places at which a test may kill or suspend the process that reaches them: before, between and after the
//! durable steps of coordinator and agent. Off unless `THUNDERHEAD_FAIL_POINT` is set, and then costs a relaxed load.
//!
//! `NAME` kills the process (SIGKILL) when it reaches the place, `NAME:3` when it does so for the third time;
//! `NAME=stop` suspends it (SIGSTOP) there. What is behind the place has not happened, what is before it has.

use rustix::process::{Signal, getpid, kill_process};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How long a signal may take to stop every thread.
const TAKES_EFFECT: Duration = Duration::from_millis(200);

const VARIABLE: &str = "THUNDERHEAD_FAIL_POINT";

/// False once it is known that nothing is armed.
static MAY_BE_ARMED: AtomicBool = AtomicBool::new(true);
static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

struct Armed {
    name: String,
    nth: u64,
    stop: bool,
    reached: AtomicU64,
}

/// See the module. `name` is unique in the product.
#[inline]
pub fn fail_point(name: &str) {
    if MAY_BE_ARMED.load(Ordering::Relaxed) {
        reached(name);
    }
}

#[cold]
fn reached(name: &str) {
    let armed = ARMED.get_or_init(|| std::env::var(VARIABLE).ok().as_deref().and_then(parse));
    let Some(armed) = armed else {
        MAY_BE_ARMED.store(false, Ordering::Relaxed);
        return;
    };
    if !armed.fires(name) {
        return;
    }
    eprintln!("fail point {name}");
    let signal = if armed.stop {
        Signal::STOP
    } else {
        Signal::KILL
    };
    if let Err(error) = kill_process(getpid(), signal) {
        eprintln!("fail point {name}: {error}");
    }
    // Another thread may take the signal: until all are stopped, this one must not go on.
    std::thread::sleep(TAKES_EFFECT);
}

fn parse(text: &str) -> Option<Armed> {
    let (text, stop) = match text.strip_suffix("=stop") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let (name, nth) = match text.split_once(':') {
        Some((name, nth)) => (name, nth.parse().ok()?),
        None => (text, 1),
    };
    (!name.is_empty()).then(|| Armed {
        name: name.to_owned(),
        nth,
        stop,
        reached: AtomicU64::new(0),
    })
}

impl Armed {
    fn fires(&self, name: &str) -> bool {
        self.name == name && self.reached.fetch_add(1, Ordering::Relaxed) + 1 == self.nth
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_point_fires_once_at_the_visit_that_was_asked_for() {
        let armed = parse("spill:2=stop").unwrap();
        assert!(armed.stop);
        assert!(!armed.fires("sync"));
        let fired: Vec<bool> = (0..3).map(|_| armed.fires("spill")).collect();
        assert_eq!(fired, [false, true, false]);
        let first = parse("sync").unwrap();
        assert!(!first.stop && first.fires("sync"));
        assert!(parse("").is_none() && parse("sync:x").is_none());
    }

    #[test]
    fn nothing_is_armed_without_the_variable() {
        fail_point("anything");
        assert!(!MAY_BE_ARMED.load(Ordering::Relaxed));
    }
}
