//! Clients of stores: from the options of a URI, from the environment, and from what the machine is given
//! (instance and web identity credentials), in this order. Clients are kept, so that the chunks of a job
//! share connections and credentials.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use parking_lot::Mutex;

use super::location::{Location, LocationError, StoreKind};
use super::redact::redact;
use super::region;
use super::role::{Role, RoleCredentials};

/// A block of a file takes a second; this long and the connection is dead.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A store that throttles (503 SlowDown, 429) is asked again, slower and slower, for so long.
const RETRY_TIMEOUT: Duration = Duration::from_secs(180);
const RETRIES_MAX: usize = 20;
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// More stores than any job has.
const KEPT_MAX: usize = 64;

/// Why there is no client for a URI.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error(transparent)]
    Location(#[from] LocationError),
    #[error("the store cannot be used: {0}")]
    Store(String),
}

type Client = Arc<dyn ObjectStore>;
/// Store, scheme, bucket and the query, which may hold credentials.
type ClientKey = (StoreKind, String, String, String);

/// The client for `location`.
pub(super) fn client(location: &Location) -> Result<Client, ConnectError> {
    static KEPT: OnceLock<Mutex<BTreeMap<ClientKey, Client>>> = OnceLock::new();
    let key = (
        location.kind,
        location.scheme.clone(),
        location.bucket.clone(),
        location.query.clone(),
    );
    let mut kept = KEPT.get_or_init(Mutex::default).lock();
    if let Some(client) = kept.get(&key) {
        return Ok(Arc::clone(client));
    }
    let client = match location.kind {
        StoreKind::S3 => s3(location)?,
        StoreKind::Gcs => gcs(location)?,
        StoreKind::Azure => azure(location)?,
        StoreKind::Http => http(location)?,
    };
    if kept.len() >= KEPT_MAX {
        kept.clear();
    }
    kept.insert(key, Arc::clone(&client));
    Ok(client)
}

fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: BACKOFF_FIRST,
            max_backoff: BACKOFF_MAX,
            base: 2.0,
        },
        max_retries: RETRIES_MAX,
        retry_timeout: RETRY_TIMEOUT,
    }
}

/// Without TLS only where the user wrote an address without it.
fn client_options(endpoint: Option<&str>) -> ClientOptions {
    ClientOptions::new()
        .with_timeout(REQUEST_TIMEOUT)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_allow_http(endpoint.is_some_and(|url| url.starts_with("http://")))
}

fn failed(location: &Location) -> impl Fn(object_store::Error) -> ConnectError {
    move |error| ConnectError::Store(redact(&error.to_string(), location))
}

/// Where S3 is, if it is not Amazon's.
pub(super) fn endpoint(location: &Location) -> Option<String> {
    let from_env = || {
        std::env::var("AWS_ENDPOINT_URL_S3")
            .or_else(|_| std::env::var("AWS_ENDPOINT_URL"))
            .ok()
    };
    let written = location.option("endpoint").map(str::to_owned);
    written.or_else(from_env)
}

fn s3(location: &Location) -> Result<Client, ConnectError> {
    let anywhere = endpoint(location);
    let options = client_options(anywhere.as_deref());
    let endpoint = location.option("endpoint").map(str::to_owned);
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(&location.bucket)
        .with_retry(retry())
        .with_client_options(options);
    let (key, secret) = (
        location.option("access-key"),
        location.option("secret-access-key"),
    );
    if key.is_some() != secret.is_some() {
        let missing = if key.is_some() {
            "secret-access-key"
        } else {
            "access-key"
        };
        return Err(LocationError::Value(
            missing.into(),
            "is missing beside the other half of the credentials",
        )
        .into());
    }
    if let (Some(key), Some(secret)) = (key, secret) {
        builder = builder
            .with_access_key_id(key)
            .with_secret_access_key(secret);
        // A token of the environment belongs to the environment's key.
        builder = builder.with_config(
            AmazonS3ConfigKey::Token,
            location.option("session-token").unwrap_or_default(),
        );
    }
    let region = region::written(location)
        .or_else(|| region::asked(location, anywhere.as_deref()))
        .unwrap_or_else(|| region::DEFAULT.to_owned());
    builder = builder.with_region(region);
    let accelerate = location.flag("use-accelerate-endpoint")?.unwrap_or(false);
    let path_style = location.flag("force-path-style")?;
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    } else if accelerate {
        let endpoint = format!("https://{}.s3-accelerate.amazonaws.com", location.bucket);
        builder = builder.with_endpoint(endpoint);
    }
    if accelerate || path_style == Some(false) {
        builder = builder.with_virtual_hosted_style_request(true);
    } else if path_style == Some(true) {
        builder = builder.with_virtual_hosted_style_request(false);
    }
    if location.flag("skip-signature")? == Some(true) {
        builder = builder.with_skip_signature(true);
    }
    if let Some(arn) = location.option("role-arn") {
        builder = with_role(builder, arn, location)?;
    } else if location.option("external-id").is_some() {
        let why = "is of no use without role-arn";
        return Err(LocationError::Value("external-id".into(), why).into());
    }
    Ok(Arc::new(builder.build().map_err(failed(location))?))
}

/// `builder` with the credentials of a role instead of its own, which only ask for them.
fn with_role(
    builder: AmazonS3Builder,
    arn: &str,
    location: &Location,
) -> Result<AmazonS3Builder, ConnectError> {
    let external_id = location.option("external-id").map(str::to_owned);
    // A web identity becomes a role by itself.
    if std::env::var_os("AWS_WEB_IDENTITY_TOKEN_FILE").is_some() && external_id.is_none() {
        return Ok(builder.with_config(AmazonS3ConfigKey::RoleArn, arn));
    }
    let caller = builder.clone().build().map_err(failed(location))?;
    let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
    let region = region.unwrap_or_else(|| "us-east-1".to_owned());
    let endpoint = std::env::var("AWS_ENDPOINT_URL_STS")
        .unwrap_or_else(|_| format!("https://sts.{region}.amazonaws.com"));
    let options = client_options(Some(&endpoint));
    let role = Role {
        arn: arn.to_owned(),
        external_id,
        region,
        endpoint,
    };
    let credentials = RoleCredentials::new(role, Arc::clone(caller.credentials()), &options);
    Ok(builder.with_credentials(Arc::new(credentials.map_err(failed(location))?)))
}

fn gcs(location: &Location) -> Result<Client, ConnectError> {
    let endpoint = location.option("endpoint");
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(&location.bucket)
        .with_retry(retry())
        .with_client_options(client_options(endpoint));
    if let Some(file) = location.option("credentials-file") {
        builder = builder.with_service_account_path(file);
    }
    if let Some(endpoint) = endpoint {
        builder = builder.with_config(GoogleConfigKey::BaseUrl, endpoint.trim_end_matches('/'));
    }
    if location.flag("skip-signature")? == Some(true) {
        builder = builder.with_config(GoogleConfigKey::SkipSignature, "true");
    }
    Ok(Arc::new(builder.build().map_err(failed(location))?))
}

fn azure(location: &Location) -> Result<Client, ConnectError> {
    let endpoint = location.option("endpoint");
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_container_name(&location.bucket)
        .with_retry(retry())
        .with_client_options(client_options(endpoint));
    if let Some(account) = location.option("account-name") {
        builder = builder.with_account(account);
    }
    if let Some(key) = location.option("account-key") {
        builder = builder.with_access_key(key);
    }
    if let Some(token) = location.option("sas-token") {
        let token = token.trim_start_matches('?');
        builder = builder.with_config(object_store::azure::AzureConfigKey::SasKey, token);
    }
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint.to_owned());
    }
    if let Some(key) = location.option("encryption-key") {
        builder = builder.with_config(object_store::azure::AzureConfigKey::EncryptionKey, key);
    }
    Ok(Arc::new(builder.build().map_err(failed(location))?))
}

fn http(location: &Location) -> Result<Client, ConnectError> {
    let mut url = format!("{}://{}", location.scheme, location.bucket);
    if !location.query.is_empty() {
        url = format!("{url}/?{}", location.query);
    }
    let builder = HttpBuilder::new()
        .with_client_options(client_options(Some(&url)))
        .with_retry(retry())
        .with_url(url);
    Ok(Arc::new(builder.build().map_err(failed(location))?))
}
