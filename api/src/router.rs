//! The map of all paths, and what every request passes through.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use model::{
    AccessList, Certificate, CryptoMap, Interface, IpsecProfile, IsakmpPolicy, Ppk, PreSharedKey, Route,
    Site, TransformSet, Tunnel,
};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::problem::Problem;
use crate::resource::routes;
use crate::state::Gateway;
use crate::{action, body, document, events, landing, metrics, operations};

/// Everything that a gateway serves.
pub fn router(gateway: Gateway) -> Router {
    let (router, document) = described().split_for_parts();
    let pages = Router::new()
        .route("/", get(landing::page))
        .route("/openapi.json", get(move || async move { Json(document) }))
        .merge(docs());
    wrap(router.with_state(gateway).merge(pages))
}

/// The OpenAPI document of [`router`].
#[must_use]
pub fn openapi() -> OpenApi {
    described().split_for_parts().1
}

/// All paths of the API with their descriptions.
fn described() -> OpenApiRouter<Gateway> {
    OpenApiRouter::with_openapi(document::base())
        .merge(routes::<Site>())
        .merge(routes::<Interface>())
        .merge(routes::<IsakmpPolicy>())
        .merge(routes::<PreSharedKey>())
        .merge(routes::<Ppk>())
        .merge(routes::<Certificate>())
        .merge(routes::<TransformSet>())
        .merge(routes::<IpsecProfile>())
        .merge(routes::<AccessList>())
        .merge(routes::<CryptoMap>())
        .merge(routes::<Tunnel>())
        .merge(routes::<Route>())
        .merge(operations::routes())
        .merge(action::routes())
        .merge(events::routes())
        .merge(metrics::routes())
}

/// What every request passes through, the outermost last.
fn wrap(router: Router) -> Router {
    router
        .fallback(async || Problem::not_found("no such path; /openapi.json lists all"))
        .method_not_allowed_fallback(async || {
            Problem::method_not_allowed("the header Allow lists the methods that are")
        })
        .layer(DefaultBodyLimit::max(body::LIMIT_BYTES))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(name_and_log))
}

/// A page to read and to try the API, all of it embedded.
fn docs() -> Router {
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                          img-src 'self' data:; connect-src 'self'; font-src 'self'; base-uri 'none'; \
                          form-action 'none'; frame-ancestors 'none'";
    let config = Config::new(["/openapi.json"]).try_it_out_enabled(true).persist_authorization(false);
    Router::new().merge(SwaggerUi::new("/docs").config(config)).layer(middleware::map_response(
        async |mut response: Response| {
            response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
            response
        },
    ))
}

/// Gives the request an id, logs it, and puts the id into the answer; a problem bears it in its body too.
async fn name_and_log(request: Request, next: Next) -> Response {
    let id = request_id();
    // The path alone: a query might bear what does not belong in a log.
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let span = tracing::info_span!("request", id, token = tracing::field::Empty);
    async move {
        let began = Instant::now();
        let mut response = next.run(request).await;
        if let Some(problem) = response.extensions_mut().remove::<Problem>() {
            let allow = response.headers_mut().remove(header::ALLOW);
            response = problem.with_instance(format!("urn:culvert:request:{id}")).into_response();
            response.headers_mut().extend(allow.map(|allow| (header::ALLOW, allow)));
        }
        let headers = response.headers_mut();
        headers.extend(HeaderValue::from_str(&id).ok().map(|id| (REQUEST_ID, id)));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        let status = response.status().as_u16();
        let elapsed_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        if method.is_safe() {
            tracing::debug!(%method, path, status, elapsed_us, "answered");
        } else {
            tracing::info!(%method, path, status, elapsed_us, "answered");
        }
        response
    }
    .instrument(span)
    .await
}

/// Unique over restarts for all practical purposes: the time of the start, and a count.
fn request_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    static START: std::sync::LazyLock<u64> = std::sync::LazyLock::new(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    });
    format!("{:x}-{:x}", *START, COUNT.fetch_add(1, Ordering::Relaxed))
}

#[expect(clippy::needless_pass_by_value, reason = "the layer's signature")]
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    tracing::error!(panic = text, "a handler panicked");
    Problem::internal("see the log of culvertd for the request's id").into_response()
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::StatusCode;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_problem_that_tells_nothing() {
        let broken = get(async || -> StatusCode { panic!("the reason is private") });
        let request = Request::get("/broken").body(Body::empty()).unwrap();
        let response = wrap(Router::new().route("/broken", broken)).oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()[header::CONTENT_TYPE], crate::problem::CONTENT_TYPE);
        assert!(response.headers().contains_key(REQUEST_ID));
        let body = String::from_utf8(to_bytes(response.into_body(), 10_000).await.unwrap().to_vec()).unwrap();
        assert!(body.contains("urn:culvert:problem:internal") && !body.contains("private"), "{body}");
    }
}
