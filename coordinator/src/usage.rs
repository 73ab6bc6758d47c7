//! What this process has used, from `/proc`: for the report and the benches.

use std::fs;

/// The kernel counts CPU time in `/proc` in units of 1/100 s on every Linux architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// User and system CPU seconds of this process so far, all threads; 0 where `/proc` is missing.
pub fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The command name may hold blanks; fields are counted after its closing bracket. utime and stime are
    // fields 14 and 15 of the whole line (proc(5)).
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: f64 = after
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    ticks / TICKS_PER_SECOND
}

/// Largest resident set so far, bytes; 0 where `/proc` is missing.
pub fn peak_rss_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_in_the_figures() {
        let before = cpu_seconds();
        let mut sum = 0u64;
        while cpu_seconds() < before + 0.05 {
            sum = (0..1_000_000u64).fold(sum, |a, b| a.wrapping_mul(31).wrapping_add(b));
        }
        assert!(peak_rss_bytes() > 1 << 20, "{sum}");
    }
}
