//! The eleven kinds of resources, served alike: `PUT`, `GET`, `DELETE` by name, and lists.

mod describe;

pub(crate) use describe::about;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use model::Resource;
use model::read::FieldError;
use serde::Serialize;
use store::Stored;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use crate::body::Document;
use crate::caller::{Admin, Viewer};
use crate::page::{Window, cursor};
use crate::precondition::{Conditions, etag};
use crate::problem::Problem;
use crate::state::Gateway;

/// Both paths of one kind, with their description.
pub(crate) fn routes<R: Resource + ToSchema>() -> OpenApiRouter<Gateway> {
    let one = get(read::<R>).put(write::<R>).delete(delete::<R>);
    let one: UtoipaMethodRouter<Gateway> = (describe::schemas::<R>(), describe::one::<R>(), one);
    let all: UtoipaMethodRouter<Gateway> = (Vec::new(), describe::all::<R>(), get(list::<R>));
    OpenApiRouter::new().routes(all).routes(one)
}

async fn read<R: Resource>(
    State(gateway): State<Gateway>,
    _: Viewer,
    conditions: Conditions,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let stored = gateway.store.read::<R>(&existing::<R>(path)?).await?;
    if conditions.unmodified(stored.generation)? {
        return Ok((StatusCode::NOT_MODIFIED, tagged(&stored)).into_response());
    }
    Ok((tagged(&stored), Json(View::of(&stored, &[]))).into_response())
}

async fn list<R: Resource>(
    State(gateway): State<Gateway>,
    _: Viewer,
    window: Window,
) -> Result<Response, Problem> {
    let page = gateway.store.page::<R>(window.after.as_deref(), window.limit).await?;
    let next = page.items.last().filter(|_| page.more).map(|last| cursor(&last.name.to_string()));
    let items: Vec<View<'_, R>> = page.items.iter().map(|stored| View::of(stored, &[])).collect();
    Ok(Json(List { items, next }).into_response())
}

async fn write<R: Resource>(
    State(gateway): State<Gateway>,
    _: Admin,
    conditions: Conditions,
    path: Result<Path<String>, PathRejection>,
    document: Document,
) -> Result<Response, Problem> {
    let precondition = conditions.for_write(gateway.require_if_match)?;
    let name = name_of::<R>(path)?
        .map_err(|detail| Problem::fields(vec![FieldError { pointer: "/name".to_owned(), detail }]))?;
    let resource: R = document.resource(&name)?;
    let written = gateway.store.write(name.clone(), resource, precondition).await?;
    gateway.control.generation_moved();
    let (status, location) = if written.created {
        (StatusCode::CREATED, Some([(header::LOCATION, format!("/v1/{}/{name}", R::KIND))]))
    } else {
        (StatusCode::OK, None)
    };
    let view = View::of(&written.stored, &written.warnings);
    Ok((status, location, tagged(&written.stored), Json(view)).into_response())
}

async fn delete<R: Resource>(
    State(gateway): State<Gateway>,
    _: Admin,
    conditions: Conditions,
    path: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let precondition = conditions.for_write(gateway.require_if_match)?;
    gateway.store.delete::<R>(existing::<R>(path)?, precondition).await?;
    gateway.control.generation_moved();
    Ok(StatusCode::NO_CONTENT)
}

/// A resource as it is answered.
#[derive(Serialize)]
struct View<'a, R> {
    name: String,
    #[serde(flatten)]
    resource: &'a R,
    #[serde(flatten)]
    derived: Option<std::collections::BTreeMap<&'static str, serde_json::Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<&'a str>,
    generation: u64,
    created_at: String,
    updated_at: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [FieldError],
}

#[derive(Serialize)]
struct List<'a, R> {
    items: Vec<View<'a, R>>,
    next: Option<String>,
}

impl<'a, R: Resource> View<'a, R> {
    fn of(stored: &'a Stored<R>, warnings: &'a [FieldError]) -> Self {
        Self {
            name: stored.name.to_string(),
            resource: &stored.resource,
            derived: stored.resource.derived().map(|derived| [derived].into()),
            fingerprint: stored.fingerprint.as_deref(),
            generation: stored.generation,
            created_at: rfc3339(stored.created_at_ms),
            updated_at: rfc3339(stored.updated_at_ms),
            warnings,
        }
    }
}

/// The ETag, and that no cache on the way may keep the answer.
fn tagged<R: Resource>(stored: &Stored<R>) -> HeaderMap {
    let etag = (header::ETAG, etag(stored.generation));
    let cache: (HeaderName, _) = (header::CACHE_CONTROL, header::HeaderValue::from_static("no-cache"));
    HeaderMap::from_iter([etag, cache])
}

/// The name in the path; `Err` inside when it can be no name of this kind.
fn name_of<R: Resource>(
    path: Result<Path<String>, PathRejection>,
) -> Result<Result<R::Name, String>, Problem> {
    let Path(text) = path.map_err(|_| Problem::bad_request("the path is not UTF-8"))?;
    Ok(text.parse().map_err(|error: model::NameError| error.to_string()))
}

/// The same when it must exist: what can be no name can't be there.
fn existing<R: Resource>(path: Result<Path<String>, PathRejection>) -> Result<R::Name, Problem> {
    name_of::<R>(path)?.map_err(|_| Problem::not_found(format!("there is no such {}", R::KIND.singular())))
}

fn rfc3339(unix_ms: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
        .format(&Rfc3339)
        .unwrap_or_default()
}
