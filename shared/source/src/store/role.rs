//! Credentials of a role of AWS (`role-arn`, `external-id`): whoever we are asks the token service to be the
//! role for an hour, and asks again in good time. The protocol is STS `AssumeRole` of 2011-06-15.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use object_store::aws::{AwsAuthorizer, AwsCredential, AwsCredentialProvider};
use object_store::client::{
    HttpClient, HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector,
};
use object_store::{ClientOptions, CredentialProvider, Error, Result};
use tokio::sync::Mutex;

/// The longest session that every role allows.
const SESSION: Duration = Duration::from_secs(3600);
/// A session is not used to its last minute: requests take a while.
const USED_FOR: Duration = Duration::from_secs(2700);
/// Shown in the logs of the account.
const SESSION_NAME: &str = "thunderhead";
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// Which role, and where to ask for it.
pub(super) struct Role {
    pub arn: String,
    pub external_id: Option<String>,
    pub region: String,
    /// Of the token service.
    pub endpoint: String,
}

/// The credentials of a role.
pub(super) struct RoleCredentials {
    role: Role,
    /// Who asks.
    caller: AwsCredentialProvider,
    client: HttpClient,
    kept: Mutex<Option<(Arc<AwsCredential>, Instant)>>,
}

impl fmt::Debug for RoleCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RoleCredentials")
            .field(&self.role.arn)
            .finish()
    }
}

impl RoleCredentials {
    pub(super) fn new(
        role: Role,
        caller: AwsCredentialProvider,
        options: &ClientOptions,
    ) -> Result<Self> {
        Ok(Self {
            role,
            caller,
            client: ReqwestConnector::default().connect(options)?,
            kept: Mutex::default(),
        })
    }

    fn url(&self) -> String {
        let seconds = SESSION.as_secs();
        let mut url = format!(
            "{}/?Action=AssumeRole&DurationSeconds={seconds}&RoleArn={}&RoleSessionName={SESSION_NAME}&Version=2011-06-15",
            self.role.endpoint.trim_end_matches('/'),
            escaped(&self.role.arn),
        );
        if let Some(id) = &self.role.external_id {
            url.push_str(&format!("&ExternalId={}", escaped(id)));
        }
        url
    }

    async fn ask(&self) -> std::result::Result<AwsCredential, Refusal> {
        let caller = self.caller.get_credential().await.map_err(Refusal::Store)?;
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.uri_mut() = self
            .url()
            .parse()
            .map_err(|_| Refusal::Final("the address of the token service is not one".into()))?;
        AwsAuthorizer::new(&caller, "sts", &self.role.region)
            .try_authorize(&mut request, None)
            .map_err(Refusal::Store)?;
        let answer = self.client.execute(request).await;
        let answer = answer.map_err(|e| Refusal::Later(e.to_string()))?;
        let status = answer.status();
        let body = answer.into_body().bytes().await;
        let body = body.map_err(|e| Refusal::Later(e.to_string()))?;
        let body = String::from_utf8_lossy(&body);
        if !status.is_success() {
            // The message of the service may name the caller's key.
            let code = element(&body, "Code").unwrap_or("no code");
            let text = format!("the token service answered {status} ({code})");
            let later = status.is_server_error() || code == "Throttling";
            return Err(if later {
                Refusal::Later(text)
            } else {
                Refusal::Final(text)
            });
        }
        let credential = || {
            Some(AwsCredential {
                key_id: element(&body, "AccessKeyId")?.to_owned(),
                secret_key: element(&body, "SecretAccessKey")?.to_owned(),
                token: Some(element(&body, "SessionToken")?.to_owned()),
            })
        };
        credential()
            .ok_or_else(|| Refusal::Final("the token service answered without credentials".into()))
    }
}

enum Refusal {
    /// Asking again may help.
    Later(String),
    Final(String),
    Store(Error),
}

#[async_trait]
impl CredentialProvider for RoleCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>> {
        let mut kept = self.kept.lock().await;
        if let Some((credential, since)) = &*kept
            && since.elapsed() < USED_FOR
        {
            return Ok(Arc::clone(credential));
        }
        let mut tries = 0;
        let refused = loop {
            tries += 1;
            match self.ask().await {
                Ok(credential) => {
                    let credential = Arc::new(credential);
                    *kept = Some((Arc::clone(&credential), Instant::now()));
                    return Ok(credential);
                }
                Err(Refusal::Later(_)) if tries < TRIES => {
                    tokio::time::sleep(PAUSE * (1 << tries)).await;
                }
                Err(Refusal::Later(why) | Refusal::Final(why)) => break why,
                Err(Refusal::Store(error)) => return Err(error),
            }
        };
        let why = format!("cannot become the role {}: {refused}", self.role.arn);
        Err(Error::Unauthenticated {
            path: self.role.arn.clone(),
            source: why.into(),
        })
    }
}

/// The text of the first element with this name. What is asked for here holds no markup and no escapes.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0.trim())
}

/// For a query: everything but what RFC 3986 calls unreserved.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(byte.into());
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}
