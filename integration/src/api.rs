//! A small client of the REST API.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

/// Speaks to one gateway.
#[derive(Clone, Debug)]
pub struct Api {
    base: String,
    token: String,
    agent: ureq::Agent,
}

/// An answer of the API.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `ETag` header, if any.
    pub etag: Option<String>,
    /// Body as text.
    pub text: String,
}

impl Answer {
    /// Body as JSON; null if there is none.
    pub fn json(&self) -> Result<Value> {
        if self.text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&self.text).with_context(|| format!("not JSON: {}", self.text))
    }
}

impl Api {
    /// A client of `base` (`https://127.0.0.1:8443`) that trusts this certificate alone and shows `token`.
    pub fn new(base: &str, token: &str, certificate_pem: &[u8]) -> Result<Self> {
        let certificate = Certificate::from_pem(certificate_pem).context("the server's certificate")?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(provider)
            .root_certs(RootCerts::new_with_certs(&[certificate]))
            .build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(15)))
            .build();
        Ok(Self { base: base.to_owned(), token: token.to_owned(), agent: config.into() })
    }

    /// URL of the server, without a path.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The bearer token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Any request, any answer: an error only if there is none. `headers` go beside the token.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Answer> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        request = request.header("authorization", format!("Bearer {}", self.token));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = match body {
            Some(body) => {
                self.agent.run(request.header("content-type", "application/json").body(body.to_string())?)
            }
            None => self.agent.run(request.body(())?),
        };
        let mut response = response.with_context(|| format!("{method} {}{path}: no answer", self.base))?;
        let etag = response.headers().get("etag").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let text = response.body_mut().read_to_string().context("the answer broke off")?;
        Ok(Answer { status: response.status().as_u16(), etag, text })
    }

    fn expect(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let answer = self.request(method, path, body, &[])?;
        if !(200..300).contains(&answer.status) {
            bail!("{method} {path}: {} {}", answer.status, answer.text);
        }
        answer.json()
    }

    /// Reads a resource.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.expect("GET", path, None)
    }

    /// Reads all pages of a list.
    pub fn items(&self, path: &str) -> Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut page = self.get(path)?;
        loop {
            items.extend(
                page["items"].as_array().with_context(|| format!("{path} has no items: {page}"))?.clone(),
            );
            match page["next"].as_str() {
                Some(next) => page = self.get(&format!("{path}?after={next}"))?,
                None => return Ok(items),
            }
        }
    }

    /// Reads something that is not JSON.
    pub fn text(&self, path: &str) -> Result<String> {
        let answer = self.request("GET", path, None, &[])?;
        if answer.status != 200 {
            bail!("GET {path}: {} {}", answer.status, answer.text);
        }
        Ok(answer.text)
    }

    /// Creates or replaces a resource.
    pub fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.expect("PUT", path, Some(body))
    }

    /// An action.
    pub fn post(&self, path: &str) -> Result<Value> {
        self.expect("POST", path, None)
    }

    /// Deletes a resource.
    pub fn delete(&self, path: &str) -> Result<()> {
        self.expect("DELETE", path, None).map(drop)
    }
}
