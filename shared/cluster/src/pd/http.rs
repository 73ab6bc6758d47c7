//! What PD offers over HTTP only: label rules that keep schedulers off a key range, versions,
//! replication settings.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use thunderhead_types::{KeyRange, Result};

use super::{PdClient, PdError, Verdict, wait};
use crate::region::encode_border;
use crate::retry::Patience;

const RULE: &str = "/pd/api/v1/config/region-label/rule";
const RULES: &str = "/pd/api/v1/config/region-label/rules";
const ANSWER_TEXT_MAX: usize = 300;

impl PdClient {
    /// Keeps schedulers away from `ranges` for `ttl`. The same `id` again prolongs and replaces.
    pub async fn deny_scheduling(
        &self,
        id: &str,
        ranges: &[KeyRange],
        ttl: Duration,
    ) -> Result<()> {
        let data: Vec<Value> = ranges
            .iter()
            .map(|r| json!({"start_key": hex_border(&r.start), "end_key": hex_border(&r.end)}))
            .collect();
        let rule = json!({
            "id": id,
            "labels": [{"key": "schedule", "value": "deny", "ttl": format!("{}s", ttl.as_secs())}],
            "rule_type": "key-range",
            "data": data,
        });
        self.http("label rule", reqwest::Method::POST, RULE, Some(&rule))
            .await
            .map(drop)
    }

    /// Takes the rule away; fine if there is none.
    pub async fn allow_scheduling(&self, id: &str) -> Result<()> {
        let patch = json!({"sets": [], "deletes": [id]});
        self.http("label rule", reqwest::Method::PATCH, RULES, Some(&patch))
            .await
            .map(drop)
    }

    /// PD's version, without a leading `v`.
    pub async fn version(&self) -> Result<String> {
        #[derive(Deserialize)]
        struct Answer {
            version: String,
        }
        let text = self
            .http("version", reqwest::Method::GET, "/pd/api/v1/version", None)
            .await?;
        let answer: Answer = self.parse("version", &text)?;
        Ok(answer.version.trim_start_matches('v').to_owned())
    }

    /// How many replicas a region should have.
    pub async fn max_replicas(&self) -> Result<u64> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "max-replicas")]
            max_replicas: u64,
        }
        let path = "/pd/api/v1/config/replicate";
        let text = self
            .http("replication", reqwest::Method::GET, path, None)
            .await?;
        Ok(self.parse::<Answer>("replication", &text)?.max_replicas)
    }

    fn parse<'a, T: Deserialize<'a>>(&self, what: &'static str, text: &'a str) -> Result<T> {
        serde_json::from_str(text)
            .map_err(|e| self.error(PdError::Http(what, 200, format!("unexpected answer: {e}"))))
    }

    async fn http(
        &self,
        what: &'static str,
        method: reqwest::Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<String> {
        let mut patience = Patience::new(self.policy);
        loop {
            let cause = match self.http_once(what, &method, path, body).await {
                Ok(text) => return Ok(text),
                Err(Verdict::Stop(error)) => return Err(self.error(error)),
                Err(Verdict::Retry(cause)) => cause,
            };
            wait(&mut patience, what, cause)
                .await
                .map_err(|e| self.error(e))?;
        }
    }

    async fn http_once(
        &self,
        what: &'static str,
        method: &reqwest::Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<String, Verdict> {
        let leader = self.leader().await?;
        let mut request = self
            .connector
            .http()
            .request(method.clone(), leader.url.clone() + path);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = match request.send().await {
            Ok(response) => (response.status(), response.text().await.unwrap_or_default()),
            Err(error) => {
                self.forget(&leader);
                return Err(Verdict::Retry(format!(
                    "{}: {}",
                    leader.url,
                    deepest(&error)
                )));
            }
        };
        let (status, mut text) = answer;
        if status.is_success() {
            return Ok(text);
        }
        truncate(&mut text);
        if status.is_server_error() {
            self.forget(&leader);
            return Err(Verdict::Retry(format!(
                "{}: HTTP {status}: {text}",
                leader.url
            )));
        }
        Err(Verdict::Stop(PdError::Http(what, status.as_u16(), text)))
    }
}

fn truncate(text: &mut String) {
    if text.len() > ANSWER_TEXT_MAX {
        let end = text.floor_char_boundary(ANSWER_TEXT_MAX);
        text.truncate(end);
    }
}

/// The innermost cause of a failed request, which names what happened to the connection.
pub(crate) fn deepest(error: &reqwest::Error) -> String {
    let mut current: &dyn std::error::Error = error;
    while let Some(source) = current.source() {
        current = source;
    }
    current.to_string()
}

fn hex_border(raw: &[u8]) -> String {
    encode_border(raw)
        .iter()
        .map(|b| format!("{b:02X}"))
        .collect()
}
