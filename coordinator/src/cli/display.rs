//! Progress on a terminal (bars), in a log (a line every 10 seconds) or for a machine (JSON lines).

use super::Format;
use crate::progress::Snapshot;
use crate::report::human_bytes;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often a line is written where there is no terminal.
const LINE_PERIOD: Duration = Duration::from_secs(10);
/// How often bars move.
const DRAW_PERIOD: Duration = Duration::from_millis(200);

/// Shows snapshots until `progress` is closed.
pub(super) async fn show(mut progress: watch::Receiver<Snapshot>, format: Format) {
    if format == Format::Text
        && std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none()
    {
        bars(&mut progress).await;
    } else {
        lines(&mut progress, format).await;
    }
}

async fn lines(progress: &mut watch::Receiver<Snapshot>, format: Format) {
    let start = Instant::now();
    let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + LINE_PERIOD, LINE_PERIOD);
    loop {
        tokio::select! {
            changed = progress.changed() => if changed.is_err() { return },
            _ = tick.tick() => {
                let line = line(&progress.borrow(), start.elapsed(), format);
                eprintln!("{line}");
            }
        }
    }
}

/// Source bytes read so far: what is recorded, or what the agents say when they are ahead.
fn read_bytes(s: &Snapshot) -> u64 {
    s.source_bytes_done
        .max(s.agents.source_bytes)
        .min(s.source_bytes_total)
}

/// Seconds left. Encoding and ingesting a byte are taken to cost about the same.
fn eta(s: &Snapshot, elapsed: Duration) -> Option<Duration> {
    let encoded = read_bytes(s) as f64 / s.source_bytes_total.max(1) as f64;
    let ingested = s.kv_bytes_ingested as f64 / s.kv_bytes_planned.max(1) as f64;
    let done = (encoded + encoded * ingested) / 2.0;
    (done > 0.01).then(|| elapsed.mul_f64((1.0 - done).max(0.0) / done))
}

fn line(s: &Snapshot, elapsed: Duration, format: Format) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let eta = eta(s, elapsed).map(|eta| eta.as_secs());
    match format {
        Format::Json => serde_json::json!({"progress": {
            "elapsed_seconds": elapsed.as_secs(), "eta_seconds": eta,
            "source_bytes": read_bytes(s), "source_bytes_total": s.source_bytes_total,
            "rows": s.rows.max(s.agents.rows),
            "kv_bytes_ingested": s.kv_bytes_ingested, "kv_bytes_planned": s.kv_bytes_planned,
            "chunks_done": s.chunks_done, "chunks": s.chunks, "ranges_done": s.ranges_done, "ranges": s.ranges,
            "tables_finished": s.tables_finished, "tables": s.tables,
        }})
        .to_string(),
        Format::Text => format!(
            "encoded {} of {} ({:.1} MB/s), chunks {}/{}; ingested {} of {}, ranges {}/{}; tables {}/{}; ETA {}",
            human_bytes(read_bytes(s)),
            human_bytes(s.source_bytes_total),
            read_bytes(s) as f64 / 1e6 / seconds,
            s.chunks_done,
            s.chunks,
            human_bytes(s.kv_bytes_ingested),
            human_bytes(s.kv_bytes_planned),
            s.ranges_done,
            s.ranges,
            s.tables_finished,
            s.tables,
            eta.map_or_else(|| "unknown".to_owned(), |seconds| format!("{seconds} s")),
        ),
    }
}

async fn bars(progress: &mut watch::Receiver<Snapshot>) {
    let all = MultiProgress::new();
    let bar = |name: &'static str, template: &str| {
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        all.add(ProgressBar::new(0))
            .with_style(style)
            .with_prefix(name)
    };
    let bytes = "{prefix:>8} [{bar:32}] {decimal_bytes:>10} of {decimal_total_bytes:<10} {decimal_bytes_per_sec:>12} {msg}";
    let (encode, ingest) = (bar("encode", bytes), bar("ingest", bytes));
    let tables = bar(
        "tables",
        "{prefix:>8} [{bar:32}] {pos:>10} of {len:<10} {msg}",
    );
    let start = Instant::now();
    let mut tick = tokio::time::interval(DRAW_PERIOD);
    loop {
        let snapshot = *progress.borrow_and_update();
        encode.set_length(snapshot.source_bytes_total);
        encode.set_position(read_bytes(&snapshot));
        encode.set_message(format!(
            "chunks {}/{}",
            snapshot.chunks_done, snapshot.chunks
        ));
        ingest.set_length(snapshot.kv_bytes_planned.max(1));
        ingest.set_position(snapshot.kv_bytes_ingested);
        ingest.set_message(format!(
            "ranges {}/{}",
            snapshot.ranges_done, snapshot.ranges
        ));
        tables.set_length(snapshot.tables as u64);
        tables.set_position(snapshot.tables_finished as u64);
        if let Some(eta) = eta(&snapshot, start.elapsed()) {
            tables.set_message(format!("ETA {} s", eta.as_secs()));
        }
        tick.tick().await;
        if progress.has_changed().is_err() {
            break;
        }
    }
    for bar in [encode, ingest, tables] {
        bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_everything_takes_as_long_again() {
        let s = Snapshot {
            source_bytes_total: 100,
            source_bytes_done: 100,
            kv_bytes_planned: 10,
            kv_bytes_ingested: 0,
            ..Snapshot::default()
        };
        assert_eq!(
            eta(&s, Duration::from_secs(10)),
            Some(Duration::from_secs(10))
        );
        assert_eq!(eta(&Snapshot::default(), Duration::from_secs(10)), None);
    }

    #[test]
    fn a_line_is_valid_json_for_machines() {
        let text = line(&Snapshot::default(), Duration::from_secs(1), Format::Json);
        assert!(
            serde_json::from_str::<serde_json::Value>(&text)
                .is_ok_and(|v| v["progress"]["rows"] == 0)
        );
    }
}
