//! The region of a bucket of S3, which every request is signed for. A bucket tells it to anybody who asks for its
//! head, also in an answer that refuses: the header `x-amz-bucket-region` of the API's HeadBucket.

use std::time::Duration;

use object_store::ClientOptions;
use object_store::client::HttpRequestBody;
use object_store::client::{HttpClient, HttpConnector, HttpRequest, ReqwestConnector};

use super::location::{Location, StoreKind};
use super::wait;

/// What is used when nobody knows better, as by every client of S3.
pub(super) const DEFAULT: &str = "us-east-1";
const PATIENCE: Duration = Duration::from_secs(5);

/// The region that the URI or the environment names.
pub(super) fn written(location: &Location) -> Option<String> {
    let from_env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let option = location.option("region").map(str::to_owned);
    option
        .or_else(|| from_env("AWS_REGION"))
        .or_else(|| from_env("AWS_DEFAULT_REGION"))
}

/// The region that the bucket of `location` names, if it names one. Stores that only speak like S3 often do not.
pub(super) fn asked(location: &Location, endpoint: Option<&str>) -> Option<String> {
    let (location, endpoint) = (location.clone(), endpoint.map(str::to_owned));
    let answer = wait(async move { Ok(ask(&location, endpoint.as_deref()).await) });
    answer.ok().flatten()
}

/// What to say of a request that failed perhaps because it was signed for another region than the bucket's.
pub(super) async fn mismatch(location: &Location) -> Option<String> {
    if location.kind != StoreKind::S3 {
        return None;
    }
    let ours = written(location)?;
    let endpoint = super::connect::endpoint(location);
    let theirs = ask(location, endpoint.as_deref()).await?;
    (theirs != ours).then(|| {
        format!("the bucket is in region {theirs}, not in {ours}: write region={theirs} in the URI")
    })
}

async fn ask(location: &Location, endpoint: Option<&str>) -> Option<String> {
    // By path: a certificate for all buckets covers none with a point in its name.
    let endpoint = endpoint.unwrap_or("https://s3.amazonaws.com");
    let url = format!("{}/{}", endpoint.trim_end_matches('/'), location.bucket);
    let options = ClientOptions::new()
        .with_timeout(PATIENCE)
        .with_connect_timeout(PATIENCE)
        .with_allow_http(url.starts_with("http://"));
    let client: HttpClient = ReqwestConnector::default().connect(&options).ok()?;
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.method_mut() = reqwest::Method::HEAD;
    *request.uri_mut() = url.parse().ok()?;
    let answer = client.execute(request).await.ok()?;
    let region = answer.headers().get("x-amz-bucket-region")?;
    let region = region.to_str().ok()?.to_owned();
    (!region.is_empty()).then_some(region)
}
