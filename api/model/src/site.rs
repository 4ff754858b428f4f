//! A site: a place with networks, to which tunnels lead.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::address::Prefix;
use crate::kind::{Kind, Reference, Resource};
use crate::name::Name;
use crate::read::{At, Parse, deserialize_by_parse};

/// A place that tunnels lead to, and what is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"description": "Branch office", "networks": ["10.2.0.0/16"], "labels": {"region": "north"}}))]
pub struct Site {
    /// For people: 1 to 500 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 500)]
    pub description: Option<String>,
    /// The prefixes behind it.
    #[schema(required = false, max_items = 1000)]
    pub networks: Vec<Prefix>,
    /// Labels for tools: names of 1 to 63, values of 1 to 255 characters.
    #[schema(required = false)]
    pub labels: BTreeMap<String, String>,
}

impl Parse for Site {
    fn parse(at: At<'_>) -> Option<Self> {
        let mut object = at.object()?;
        let description = object.optional_with("description", |at| at.line(500));
        let networks = object.optional_with("networks", |at| at.distinct(1000)).unwrap_or_default();
        let labels = object.optional_with("labels", parse_labels).unwrap_or_default();
        object.end();
        Some(Self { description, networks, labels })
    }
}

impl Resource for Site {
    const KIND: Kind = Kind::Site;
    type Name = Name;

    fn references(&self) -> Vec<Reference> {
        Vec::new()
    }

    fn of(desired: &crate::Desired) -> &BTreeMap<Name, Self> {
        &desired.sites
    }

    fn of_mut(desired: &mut crate::Desired) -> &mut BTreeMap<Name, Self> {
        &mut desired.sites
    }
}

deserialize_by_parse!(Site);

fn parse_labels(at: At<'_>) -> Option<BTreeMap<String, String>> {
    let Value::Object(map) = at.value() else {
        return at.refuse("must be an object of strings");
    };
    if map.len() > 64 {
        return at.refuse("must have at most 64 labels");
    }
    let mut labels = BTreeMap::new();
    for (name, value) in map {
        let place = at.inside(name);
        if name.parse::<Name>().is_err() {
            return place.refuse("the name of a label is made like that of a resource");
        }
        match value.as_str() {
            Some(text) if (1..=255).contains(&text.chars().count()) => {
                labels.insert(name.clone(), text.to_owned());
            }
            _ => return place.refuse("must be a string of 1 to 255 characters"),
        }
    }
    Some(labels)
}
