//! What PD remembers beside regions and stores: label rules, paused schedulers, schedule settings, GC
//! protection, scatter groups, and which member leads. Rules and GC barriers are stored durably with
//! their ends; everything that has a TTL ends by itself.

use crate::error::Result;
use crate::meta::Meta;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use thunderhead_types::Timestamp;

const RULES: &str = "label-rules";
const GC: &str = "gc";
const PAUSED: &str = "paused-schedulers";

/// Schedulers that a fresh PD runs.
pub(crate) const SCHEDULERS: [&str; 4] = [
    "balance-leader-scheduler",
    "balance-region-scheduler",
    "balance-hot-region-scheduler",
    "evict-slow-store-scheduler",
];

/// A region label rule as stored: the JSON it came with, and when it ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Rule {
    json: Value,
    ends_unix_ms: Option<u64>,
}

/// What keeps garbage collection back.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Gc {
    safe_point: Timestamp,
    /// By service or barrier id: timestamp and end.
    barriers: BTreeMap<String, (Timestamp, u64)>,
}

/// See the module.
pub(crate) struct PdState {
    meta: Arc<Meta>,
    members: u32,
    leader: AtomicU32,
    rules: Mutex<BTreeMap<String, Rule>>,
    paused: Mutex<BTreeMap<String, u64>>,
    schedule: Mutex<Schedule>,
    gc: Mutex<Gc>,
    groups: Mutex<HashMap<String, HashMap<u64, u64>>>,
}

#[derive(Default)]
struct Schedule {
    set: Map<String, Value>,
    /// Overrides with an end, by full name (`schedule.merge-schedule-limit`).
    temporary: BTreeMap<String, (Value, u64)>,
}

impl PdState {
    pub(crate) fn open(meta: Arc<Meta>, members: u32) -> Result<Self> {
        Ok(Self {
            rules: Mutex::new(meta.get(RULES)?.unwrap_or_default()),
            paused: Mutex::new(meta.get(PAUSED)?.unwrap_or_default()),
            gc: Mutex::new(meta.get(GC)?.unwrap_or_default()),
            meta,
            members: members.max(1),
            leader: AtomicU32::new(0),
            schedule: Mutex::default(),
            groups: Mutex::default(),
        })
    }

    pub(crate) fn leader(&self) -> u32 {
        self.leader.load(Ordering::SeqCst)
    }

    /// Whether there is such a member to lead.
    pub(crate) fn set_leader(&self, member: u32) -> bool {
        let known = member < self.members;
        if known {
            self.leader.store(member, Ordering::SeqCst);
        }
        known
    }

    // ---- label rules

    /// The rules in force, as JSON.
    pub(crate) fn rules(&self, now_ms: u64) -> Vec<Value> {
        let mut rules = self.rules.lock();
        rules.retain(|_, rule| rule.ends_unix_ms.is_none_or(|end| end > now_ms));
        rules.values().map(|rule| rule.json.clone()).collect()
    }

    /// Adds or replaces a rule; `Err` says what is wrong with it.
    pub(crate) fn set_rule(
        &self,
        json: Value,
        now_ms: u64,
    ) -> Result<std::result::Result<(), String>> {
        let Some(id) = json["id"]
            .as_str()
            .filter(|id| !id.is_empty())
            .map(str::to_owned)
        else {
            return Ok(Err("empty rule id".into()));
        };
        let Some(labels) = json["labels"]
            .as_array()
            .filter(|labels| !labels.is_empty())
        else {
            return Ok(Err("no region labels".into()));
        };
        if json["rule_type"] != "key-range" {
            return Ok(Err("invalid rule type".into()));
        }
        let hex = |value: &Value| {
            value
                .as_str()
                .is_some_and(|s| s.len() % 2 == 0 && s.bytes().all(|b| b.is_ascii_hexdigit()))
        };
        let ranges = json["data"].as_array().is_some_and(|data| {
            !data.is_empty()
                && data
                    .iter()
                    .all(|range| hex(&range["start_key"]) && hex(&range["end_key"]))
        });
        if !ranges {
            return Ok(Err("invalid key range".into()));
        }
        // A rule lives as long as its longest label.
        let mut ends_unix_ms = Some(0);
        for label in labels {
            let ttl = label["ttl"].as_str().filter(|ttl| !ttl.is_empty());
            match ttl.map(duration_ms) {
                None => ends_unix_ms = None,
                Some(None) => return Ok(Err("invalid ttl".into())),
                Some(Some(ms)) => ends_unix_ms = ends_unix_ms.map(|end: u64| end.max(now_ms + ms)),
            }
        }
        let mut rules = self.rules.lock();
        rules.insert(id, Rule { json, ends_unix_ms });
        self.meta.put(RULES, &*rules)?;
        Ok(Ok(()))
    }

    /// Whether the rule was there.
    pub(crate) fn delete_rule(&self, id: &str) -> Result<bool> {
        let mut rules = self.rules.lock();
        let known = rules.remove(id).is_some();
        self.meta.put(RULES, &*rules)?;
        Ok(known)
    }

    // ---- schedulers and settings

    /// Pauses a scheduler for so many seconds; 0 resumes it.
    pub(crate) fn pause(&self, name: &str, seconds: u64, now_ms: u64) -> Result<()> {
        let mut paused = self.paused.lock();
        match seconds {
            0 => _ = paused.remove(name),
            _ => _ = paused.insert(name.to_owned(), now_ms + seconds * 1000),
        }
        self.meta.put(PAUSED, &*paused)
    }

    pub(crate) fn paused(&self, now_ms: u64) -> Vec<String> {
        let mut paused = self.paused.lock();
        paused.retain(|_, end| *end > now_ms);
        paused.keys().cloned().collect()
    }

    /// Sets `schedule.*` values, for `ttl_s` seconds or for good.
    pub(crate) fn set_schedule(&self, values: Map<String, Value>, ttl_s: Option<u64>, now_ms: u64) {
        let mut schedule = self.schedule.lock();
        for (name, value) in values {
            let name = name.strip_prefix("schedule.").unwrap_or(&name).to_owned();
            match ttl_s {
                Some(ttl_s) => {
                    _ = schedule
                        .temporary
                        .insert(name, (value, now_ms + ttl_s * 1000))
                }
                None => _ = schedule.set.insert(name, value),
            }
        }
    }

    pub(crate) fn schedule(&self, now_ms: u64) -> Map<String, Value> {
        let mut schedule = self.schedule.lock();
        schedule.temporary.retain(|_, (_, end)| *end > now_ms);
        let mut values = Map::new();
        for (name, value) in [
            ("leader-schedule-limit", 4),
            ("region-schedule-limit", 2048),
            ("merge-schedule-limit", 8),
            ("max-snapshot-count", 64),
            ("max-pending-peer-count", 64),
        ] {
            values.insert(name.into(), value.into());
        }
        values.insert("enable-location-replacement".into(), "true".into());
        values.extend(schedule.set.clone());
        values.extend(
            schedule
                .temporary
                .iter()
                .map(|(name, (value, _))| (name.clone(), value.clone())),
        );
        values
    }

    // ---- GC protection

    /// Where garbage collection stands, and the barriers with the seconds they have left.
    pub(crate) fn gc_state(&self, now_ms: u64) -> (Timestamp, Vec<(String, Timestamp, u64)>) {
        let mut gc = self.gc.lock();
        gc.barriers.retain(|_, (_, end)| *end > now_ms);
        let left = |end: u64| (end - now_ms).div_ceil(1000);
        (
            gc.safe_point,
            gc.barriers
                .iter()
                .map(|(id, (ts, end))| (id.clone(), *ts, left(*end)))
                .collect(),
        )
    }

    /// Keeps data at `ts` from collection for `ttl_s` seconds (0 or less lets go). Returns the lowest
    /// point that anything is held at; above `ts` means too late.
    pub(crate) fn hold_gc(
        &self,
        id: &str,
        ts: Timestamp,
        ttl_s: i64,
        now_ms: u64,
    ) -> Result<Timestamp> {
        let mut gc = self.gc.lock();
        gc.barriers.retain(|_, (_, end)| *end > now_ms);
        if ttl_s <= 0 {
            gc.barriers.remove(id);
        } else if ts >= gc.safe_point {
            let end = now_ms.saturating_add((ttl_s as u64).saturating_mul(1000));
            gc.barriers.insert(id.to_owned(), (ts, end));
        } else {
            return Ok(gc.safe_point);
        }
        self.meta.put(GC, &*gc)?;
        Ok(gc.safe_point)
    }

    /// Moves the safe point on as far as the barriers allow (or regardless of them); returns it.
    pub(crate) fn advance_gc(&self, to: Timestamp, force: bool, now_ms: u64) -> Result<Timestamp> {
        let mut gc = self.gc.lock();
        gc.barriers.retain(|_, (_, end)| *end > now_ms);
        let held = gc
            .barriers
            .values()
            .map(|(ts, _)| *ts)
            .min()
            .filter(|_| !force);
        gc.safe_point = gc.safe_point.max(held.map_or(to, |held| held.min(to)));
        self.meta.put(GC, &*gc)?;
        Ok(gc.safe_point)
    }

    // ---- scatter

    /// The store with the fewest regions of the group so far; counts one more for it.
    pub(crate) fn least_loaded(&self, group: &str, stores: &[u64]) -> Option<u64> {
        let mut groups = self.groups.lock();
        let counts = groups.entry(group.to_owned()).or_default();
        let store = stores
            .iter()
            .copied()
            .min_by_key(|store| (counts.get(store).copied().unwrap_or(0), *store))?;
        *counts.entry(store).or_default() += 1;
        Some(store)
    }
}

/// A duration as Go prints it: `5m0s`, `300s`, `1h30m`.
fn duration_ms(text: &str) -> Option<u64> {
    let (mut total, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, ms) = [
            ("ms", 1.0),
            ("h", 3_600_000.0),
            ("m", 60_000.0),
            ("s", 1000.0),
        ]
        .into_iter()
        .find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        total += value * ms;
    }
    (total > 0.0).then_some(total as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_writes_them() {
        for (text, ms) in [
            ("5m0s", 300_000),
            ("300s", 300_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("1.5s", 1500),
        ] {
            assert_eq!(duration_ms(text), Some(ms), "{text}");
        }
        for text in ["", "5", "m", "5x", "0s"] {
            assert_eq!(duration_ms(text), None, "{text}");
        }
    }
}
