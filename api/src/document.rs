//! The OpenAPI document: what is common to all paths.

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder};
use utoipa::{PartialSchema, ToSchema};

use crate::problem::Problem;
use crate::resource::about;

/// The document before any path is added to it.
pub(crate) fn base() -> OpenApi {
    let license =
        LicenseBuilder::new().name("Apache-2.0 OR MIT").identifier(Some("Apache-2.0 OR MIT")).build();
    let info = InfoBuilder::new()
        .title("Culvert")
        .version("1")
        .description(Some(DESCRIPTION))
        .license(Some(license))
        .build();
    let mut schemas = vec![
        (Problem::name().into_owned(), Problem::schema()),
        ("Name".to_owned(), model::Name::schema()),
        ("IfName".to_owned(), model::IfName::schema()),
    ];
    Problem::schemas(&mut schemas);
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("Made by `culvertd token create`; begins with `cvt_`."))
        .build();
    let components = ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .security_scheme(TOKEN, SecurityScheme::Http(token))
        .build();
    let of_kinds = model::Kind::ALL.into_iter().map(|kind| (kind.plural(), about(kind)));
    let tags = of_kinds
        .chain([("operation", "What runs: states, SAs, counters, and orders to it.")])
        .map(|(name, description)| TagBuilder::new().name(name).description(Some(description)).build());
    OpenApiBuilder::new()
        .info(info)
        .tags(Some(tags))
        .components(Some(components))
        .security(Some([SecurityRequirement::new(TOKEN, [""; 0])]))
        .build()
}

const TOKEN: &str = "token";

const DESCRIPTION: &str = "\
The management API of a Culvert gateway: GRE over IPsec, forwarded by DPDK.

Resources have names that clients choose. `PUT` makes or replaces one and may be repeated: writing what stands there \
already changes nothing. Every answer with a resource has an `ETag`; send it as `If-Match` to change only what you \
have read. Every refusal is `application/problem+json` (RFC 9457); wrong fields are all told at once, each with a JSON \
pointer. Lists go page by page: send `next` as `after`.

Integers beyond their field's range, unknown fields and unknown query parameters are refused, never ignored.";
