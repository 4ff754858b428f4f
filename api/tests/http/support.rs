//! A gateway of which only the API runs, and answers that are easy to look at.

use api::Gateway;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use control::Inbox;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use store::{Role, Store};
use tempfile::TempDir;
use tower::ServiceExt;

pub(crate) struct Api {
    pub(crate) directory: TempDir,
    pub(crate) store: Store,
    pub(crate) router: Router,
    pub(crate) token: String,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Api {
    pub(crate) async fn new() -> Self {
        Self::with(false).await
    }

    pub(crate) async fn requiring_if_match() -> Self {
        Self::with(true).await
    }

    async fn with(require_if_match: bool) -> Self {
        Self::made_with(require_if_match).await.0
    }

    /// And the other end of its way to the control plane, which does not run yet.
    pub(crate) async fn and_inbox() -> (Self, Inbox) {
        Self::made_with(false).await
    }

    async fn made_with(require_if_match: bool) -> (Self, Inbox) {
        let directory = TempDir::new().unwrap();
        let store = Store::open(directory.path(), None).await.unwrap();
        let token = store.database().create_token("test", Role::Admin).await.unwrap().text.to_string();
        let (control, inbox) = control::handle();
        let router = api::router::router(Gateway { store: store.clone(), control, require_if_match });
        (Self { directory, store, router, token }, inbox)
    }

    /// The same gateway, as the bearer of another token.
    pub(crate) async fn role(&self, role: Role) -> String {
        self.store.database().create_token("other", role).await.unwrap().text.to_string()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        Answer { status, headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    /// A request with the admin's token, these headers, and this body as JSON.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        self.send(request.body(body).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &[], None).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PUT, path, &[], Some(&body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, &[], None).await
    }

    /// Puts what must succeed.
    pub(crate) async fn made(&self, path: &str, body: Value) -> Answer {
        let answer = self.put(path, body).await;
        assert!(answer.status.is_success(), "{path}: {answer:?}");
        answer
    }

    /// One of each kind, every one of them used where it can be.
    pub(crate) async fn whole_gateway(&self) {
        for (path, body) in everything() {
            self.made(path, body).await;
        }
    }

    /// All rows of the desired state, to see that a refused write left none.
    pub(crate) async fn desired(&self) -> model::Desired {
        self.store.desired().await.unwrap()
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn etag(&self) -> String {
        self.headers[header::ETAG].to_str().unwrap().to_owned()
    }

    /// The last part of the problem's type, after a look whether it is a proper problem.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json", "{self:?}");
        let body = self.json();
        assert_eq!(body["status"], self.status.as_u16(), "{self:?}");
        let id = self.headers["x-request-id"].to_str().unwrap();
        assert_eq!(body["instance"], format!("urn:culvert:request:{id}"));
        assert!(body["title"].is_string() && body["detail"].is_string(), "{self:?}");
        body["type"].as_str().unwrap().strip_prefix("urn:culvert:problem:").unwrap().to_owned()
    }

    /// Pointers of all wrong fields.
    pub(crate) fn pointers(&self) -> Vec<String> {
        assert_eq!(self.problem(), "invalid", "{self:?}");
        assert_eq!(self.status, StatusCode::UNPROCESSABLE_ENTITY);
        let body = self.json();
        let errors = body["errors"].as_array().unwrap();
        errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
    }
}

/// The certificate of a CA, the same throughout this process.
fn authority() -> &'static str {
    static PEM: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    });
    &PEM
}

/// One of each kind, what is used before what uses it.
pub(crate) fn everything() -> Vec<(&'static str, Value)> {
    vec![
        (
            "/v1/sites/branch",
            json!({"description": "Branch office", "networks": ["10.2.0.0/16"], "labels": {"a": "b"}}),
        ),
        (
            "/v1/isakmp-policies/strong",
            json!({"priority": 10, "encryption": ["aes-256-gcm"], "hash": ["sha2-256"], "groups": [31, 19]}),
        ),
        ("/v1/pre-shared-keys/beta", json!({"peer": "198.51.100.2", "key": "correct horse battery staple"})),
        ("/v1/ppks/grove", json!({"ppk_id": "grove", "key": "hex:".to_owned() + &"5a".repeat(32)})),
        (
            "/v1/certificates/corp",
            json!({"usage": "authority", "certificate": authority(), "revocation": "required"}),
        ),
        ("/v1/transform-sets/aes256", json!({"encryption": "aes-256-gcm", "mode": "transport"})),
        (
            "/v1/ipsec-profiles/branch",
            json!({"transform_sets": ["aes256"], "isakmp_policies": ["strong"], "pfs_group": 31, "ppk": "grove"}),
        ),
        (
            "/v1/access-lists/gre",
            json!({"rules": [{"sequence": 10, "action": "permit", "protocol": "gre",
            "source": "192.0.2.1", "destination": "198.51.100.3"}]}),
        ),
        (
            "/v1/crypto-maps/map",
            json!({"entries": [{"sequence": 10, "access_list": "gre", "peer": "198.51.100.3",
            "transform_sets": ["aes256"], "isakmp_policies": ["strong"]}]}),
        ),
        (
            "/v1/interfaces/black0",
            json!({"device": "af_packet:eth1", "side": "black", "addresses": ["192.0.2.1/24"],
            "crypto_map": "map"}),
        ),
        (
            "/v1/tunnels/gre1",
            json!({"source": "black0", "destination": "198.51.100.2", "addresses": ["10.255.0.1/30"],
            "protection": {"ipsec_profile": "branch"}, "site": "branch"}),
        ),
        ("/v1/routes/to-branch", json!({"destination": "10.2.0.0/16", "tunnel": "gre1"})),
    ]
}
