//! The OpenAPI description of a kind of resource, made from the schema of its model type.

use model::{Kind, Resource};
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem, Paths,
    PathsBuilder,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{AdditionalProperties, ArrayBuilder, Object, ObjectBuilder, Schema, Type};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Required, Response, ResponseBuilder};

use crate::page::{DEFAULT_LIMIT, MAX_LIMIT};
use crate::problem;

type Named = (String, RefOr<Schema>);

/// `Tunnel` (what is written), `TunnelView` (what is answered), `TunnelList`, and what they refer to.
pub(super) fn schemas<R: Resource + ToSchema>() -> Vec<Named> {
    let mut inner = Vec::new();
    R::schemas(&mut inner);
    let whole = flatten(R::schema(), &inner);
    let name = type_name(R::KIND);

    let mut written = whole.clone();
    written.properties.insert("name".to_owned(), Ref::from_schema_name(name_type(R::KIND)).into());
    written.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));

    // It is never serialized, which is why the derived schema does not have it.
    if let Some(field) = R::SECRET_FIELD {
        let schema = match R::KIND {
            Kind::Certificate => private_key(),
            Kind::Ppk => secret(model::Ppk::MIN_BYTES),
            _ => secret(model::Secret::MIN_BYTES),
        };
        written.properties.insert(field.to_owned(), schema);
    }

    let mut view = whole;
    view.example = None;
    view.examples = Vec::new();
    let mut add = |field: &str, schema: RefOr<Schema>, required: bool| {
        view.properties.insert(field.to_owned(), schema);
        if required {
            view.required.push(field.to_owned());
        }
    };
    add("name", described("Its name."), true);
    let counter = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
    add("generation", counter.description(Some("Its ETag, without the quotes.")).into(), true);
    add("created_at", moment("When it was made."), true);
    add("updated_at", moment("When it was last changed."), true);
    if R::SECRET_FIELD.is_some() {
        let always = R::KIND != Kind::Certificate;
        add("fingerprint", described("Keyed fingerprint of the secret: tells equal from different."), always);
    }
    if R::KIND == Kind::Certificate {
        add("certificates", certificates(), true);
    }
    let warnings = ArrayBuilder::new()
        .items(Ref::from_schema_name("FieldError"))
        .description(Some("After a write: what is allowed but probably not meant."));
    add("warnings", warnings.into(), false);

    let list = ObjectBuilder::new()
        .property("items", ArrayBuilder::new().items(Ref::from_schema_name(format!("{name}View"))))
        .required("items")
        .property(
            "next",
            ObjectBuilder::new()
                .schema_type(utoipa::openapi::schema::SchemaType::from_iter([Type::String, Type::Null]))
                .description(Some("Send it as `after` for the next page; null on the last one.")),
        )
        .required("next");
    let own = [
        (name.clone(), written.into()),
        (format!("{name}View"), view.into()),
        (format!("{name}List"), list.into()),
    ];
    // What is flattened away is referred to no more.
    let inner = inner.into_iter().filter(|(name, _)| name != "SaTerms");
    inner.map(|(name, schema)| (name, flatten_in(schema))).chain(own).collect()
}

/// What is read out of certificates, for people.
fn certificates() -> RefOr<Schema> {
    let one = ObjectBuilder::new()
        .property("subject", described("Distinguished name of its holder."))
        .property("issuer", described("Distinguished name of its issuer."))
        .property(
            "names",
            ArrayBuilder::new()
                .items(described("An alternative name."))
                .description(Some("Domain names, mail addresses, addresses and names that it proves.")),
        )
        .property("not_before", moment("When it begins to be valid."))
        .property("not_after", moment("When it expires."))
        .property("sha256", described("SHA-256 of the whole certificate."));
    let all = ["subject", "issuer", "names", "not_before", "not_after", "sha256"];
    let one = all.into_iter().fold(one, ObjectBuilder::required);
    ArrayBuilder::new().items(one).description(Some("The certificates, read out.")).into()
}

/// `/v1/tunnels/{name}`.
pub(super) fn one<R: Resource>() -> Paths {
    let name = type_name(R::KIND);
    let noun = R::KIND.singular();
    let view = || {
        let content =
            ContentBuilder::new().schema(Some(Ref::from_schema_name(format!("{name}View")))).build();
        move |description: &str| {
            let etag = HeaderBuilder::new().description(Some("The generation, in quotes.")).build();
            ResponseBuilder::new()
                .description(description)
                .content("application/json", content.clone())
                .header("ETag", etag)
                .build()
        }
    };
    let view = view();
    let operation = |verb: &str, summary: String| {
        OperationBuilder::new()
            .tag(R::KIND.plural())
            .operation_id(Some(format!("{verb}_{}", noun.replace('-', "_"))))
            .summary(Some(summary))
            .parameter(name_parameter(R::KIND))
    };
    let read = operation("read", format!("Read one {noun}"))
        .parameter(header_parameter(
            "If-None-Match",
            ETAGS,
            "ETags that are known already: 304 if one is still right.",
        ))
        .response("200", view("The resource."))
        .response("304", Response::new("It is still as it was."));
    let body = ContentBuilder::new().schema(Some(Ref::from_schema_name(&name))).build();
    let write = operation("put", format!("Make or replace one {noun}"))
        .description(Some(about(R::KIND)))
        .parameter(header_parameter("If-Match", ETAGS, "Replace only if the ETag is one of these."))
        .parameter(header_parameter("If-None-Match", STAR, "`*`: make it, never replace it."))
        .request_body(Some(
            RequestBodyBuilder::new()
                .content("application/json", body)
                .required(Some(Required::True))
                .build(),
        ))
        .response("200", view("Replaced."))
        .response("201", view("Made."));
    let delete = operation("delete", format!("Delete one {noun}"))
        .parameter(header_parameter("If-Match", ETAGS, "Delete only if the ETag is one of these."))
        .response("204", Response::new("It is gone."));
    let item = PathItem::new(HttpMethod::Get, refusals(read, &[400, 401, 404]));
    let item = with(item, HttpMethod::Put, refusals(write, &[400, 401, 403, 412, 413, 415, 422, 428]));
    let item = with(item, HttpMethod::Delete, refusals(delete, &[400, 401, 403, 404, 409, 412, 428]));
    PathsBuilder::new().path(format!("/v1/{}/{{name}}", R::KIND.plural()), item).build()
}

/// `/v1/tunnels`.
pub(super) fn all<R: Resource>() -> Paths {
    let name = type_name(R::KIND);
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(format!("{name}List")))).build();
    let limit = ParameterBuilder::new()
        .name("limit")
        .parameter_in(ParameterIn::Query)
        .description(Some("How many at most."))
        .schema(Some(
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .minimum(Some(1))
                .maximum(Some(MAX_LIMIT))
                .default(Some(DEFAULT_LIMIT.into())),
        ));
    let after = ParameterBuilder::new()
        .name("after")
        .parameter_in(ParameterIn::Query)
        .description(Some("The `next` of the page before."))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)));
    let list = OperationBuilder::new()
        .tag(R::KIND.plural())
        .operation_id(Some(format!("list_{}", R::KIND.plural().replace('-', "_"))))
        .summary(Some(format!("List {} by name", R::KIND.plural())))
        .parameter(limit)
        .parameter(after)
        .response("200", ResponseBuilder::new().description("A page.").content("application/json", content));
    let item = PathItem::new(HttpMethod::Get, refusals(list, &[400, 401]));
    PathsBuilder::new().path(format!("/v1/{}", R::KIND.plural()), item).build()
}

/// What each kind is, in a sentence or two.
pub(crate) fn about(kind: Kind) -> &'static str {
    match kind {
        Kind::Site => "A place that tunnels lead to. For people and tools; forwarding does not depend on it.",
        Kind::Interface => {
            "A port of the dataplane and its twin in Linux, which bears the addresses. Red is the protected side, \
             black the Internet."
        }
        Kind::IsakmpPolicy => {
            "What is offered and accepted for the IKE SA (phase 1): any of each list, best first."
        }
        Kind::PreSharedKey => {
            "A key that is shared with a peer. The key is sealed at rest and never answered; a keyed fingerprint and \
             a version tell one key from the next. When `key` is absent it stays as it was."
        }
        Kind::Ppk => {
            "A post-quantum pre-shared key (RFC 8784): mixed into the keys of IKEv2, it keeps recorded traffic closed to who \
             can break the key exchange. The key is sealed at rest and never answered."
        }
        Kind::Certificate => {
            "Certificates in PEM: an identity of ours with its private key, authorities that vouch for peers with their \
             revocation lists, or peers themselves. The private key is sealed at rest and never answered. Nothing is \
             fetched from the network."
        }
        Kind::TransformSet => "What is offered and accepted for an IPsec SA (phase 2).",
        Kind::IpsecProfile => "How the tunnels that name it are protected (tunnel protection).",
        Kind::AccessList => {
            "Which packets a crypto map protects. The first rule that matches decides; `deny` leaves the packet to \
             the next entry of the crypto map."
        }
        Kind::CryptoMap => {
            "Which packets that leave an interface are protected, how, and towards which peer."
        }
        Kind::Tunnel => {
            "A GRE tunnel and its twin in Linux. Packets of a protected tunnel without an SA are dropped and \
             counted, never sent in clear."
        }
        Kind::Route => "A static route, which the control plane installs in Linux and the dataplane follows.",
    }
}

/// Adds the problems that an operation may answer.
pub(crate) fn refusals(operation: OperationBuilder, statuses: &[u16]) -> Operation {
    statuses
        .iter()
        .fold(operation, |operation, status| operation.response(status.to_string(), refusal(*status)))
        .build()
}

fn refusal(status: u16) -> Response {
    let description = match status {
        400 => "The request can't be understood.",
        401 => "No token, or none that is known.",
        403 => "The token's role does not allow this.",
        404 => "There is no such resource.",
        409 => "It is in use; `used_by` names by whom.",
        412 => "The precondition does not hold.",
        413 => "The body is too large.",
        415 => "The body must be application/json.",
        422 => "Some fields are wrong; `errors` names each with a JSON pointer.",
        428 => "This server is set to require If-Match.",
        503 => "The control plane is not ready.",
        _ => "Something else.",
    };
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new().description(description).content(problem::CONTENT_TYPE, content).build()
}

fn name_parameter(kind: Kind) -> Parameter {
    ParameterBuilder::new()
        .name("name")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .schema(Some(Ref::from_schema_name(name_type(kind))))
        .build()
}

/// Which schema the names of a kind have.
fn name_type(kind: Kind) -> &'static str {
    if matches!(kind, Kind::Interface | Kind::Tunnel) { "IfName" } else { "Name" }
}

/// RFC 9110 section 13.1.
const ETAGS: &str = r#"^(\*|(W/)?"[^"]*"( *, *(W/)?"[^"]*")*)$"#;
/// All that a write understands.
const STAR: &str = r"^\*$";

fn header_parameter(name: &str, pattern: &str, description: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .description(Some(description))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern))))
        .build()
}

fn with(mut item: PathItem, method: HttpMethod, operation: Operation) -> PathItem {
    item.merge_operations(PathItem::new(method, operation));
    item
}

/// `isakmp-policy` -> `IsakmpPolicy`.
fn type_name(kind: Kind) -> String {
    kind.singular()
        .split('-')
        .map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_uppercase() + rest
        })
        .collect()
}

/// `allOf` of flattened parts, made one object: generators of clients and forms do better with it.
fn flatten(schema: RefOr<Schema>, known: &[Named]) -> Object {
    match schema {
        RefOr::T(Schema::Object(object)) => object,
        RefOr::T(Schema::AllOf(all)) => {
            let mut whole = Object::default();
            whole.description = all.description;
            whole.example = all.example;
            for part in all.items {
                let part = flatten(part, known);
                whole.properties.extend(part.properties);
                whole.required.extend(part.required);
                whole.example = whole.example.or(part.example);
                whole.description = whole.description.or(part.description);
            }
            whole
        }
        RefOr::Ref(reference) => {
            let name = reference.ref_location.rsplit('/').next().unwrap_or_default();
            known
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, schema)| flatten(schema.clone(), known))
                .unwrap_or_default()
        }
        RefOr::T(_) => Object::default(),
    }
}

/// The same for a schema that others refer to, which stays what it is when it is no `allOf`.
fn flatten_in(schema: RefOr<Schema>) -> RefOr<Schema> {
    match &schema {
        RefOr::T(Schema::AllOf(_)) => {
            let mut terms = Vec::new();
            model::SaTerms::schemas(&mut terms);
            terms.push(("SaTerms".to_owned(), <model::SaTerms as utoipa::PartialSchema>::schema()));
            flatten(schema, &terms).into()
        }
        _ => schema,
    }
}

fn private_key() -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .write_only(true)
        .description(Some(
            "PKCS#8 in PEM, not encrypted: RSA of 2048 bits or more, ECDSA P-256 or P-384, Ed25519. Needed when an \
             identity is made; when it is absent later, it stays as it was. Never in an answer.",
        ))
        .into()
}

fn secret(min_bytes: usize) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .write_only(true)
        .min_length(Some(min_bytes))
        .max_length(Some("hex:".len() + 2 * model::Secret::MAX_BYTES))
        .description(Some(format!(
            "Text, or `hex:` and hexadecimal digits, of {min_bytes} to {} bytes. Needed when the resource is made; \
             when it is absent later, it stays as it was. Never in an answer.",
            model::Secret::MAX_BYTES
        )))
        .into()
}

fn described(description: &str) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).description(Some(description)).into()
}

fn moment(description: &str) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(utoipa::openapi::SchemaFormat::KnownFormat(utoipa::openapi::KnownFormat::DateTime)))
        .description(Some(description))
        .examples([json!("2026-11-20T19:04:00.5Z")] as [Value; 1])
        .into()
}
