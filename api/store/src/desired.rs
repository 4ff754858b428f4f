//! Reading everything in one transaction.

use model::{
    AccessList, Certificate, CryptoMap, Desired, Interface, IpsecProfile, IsakmpPolicy, Kind, Ppk,
    PreSharedKey, Resource, Route, Site, TransformSet, Tunnel,
};

use crate::database::Database;
use crate::error::StoreError;
use crate::resource::{decode, generation_of};
use crate::seal::Sealer;
use crate::sealed;

/// All resources; with their secrets opened when there is a sealer.
pub(crate) async fn load(database: &Database, sealer: Option<&Sealer>) -> Result<Desired, StoreError> {
    let mut transaction = database.readers().begin().await?;
    let generation =
        sqlx::query_scalar!("SELECT generation FROM revision").fetch_one(&mut *transaction).await?;
    let mut desired = Desired { generation: generation_of(generation), ..Desired::default() };
    let rows = sqlx::query!("SELECT kind, name, body FROM resources").fetch_all(&mut *transaction).await?;
    for row in rows {
        let kind = Kind::from_plural(&row.kind).ok_or_else(|| StoreError::Corrupt {
            table: "resources",
            row: format!("{}/{}", row.kind, row.name),
            detail: "unknown kind".to_owned(),
        })?;
        insert(&mut desired, kind, &row.name, &row.body)?;
    }
    if let Some(sealer) = sealer {
        open_secrets::<PreSharedKey>(&mut transaction, sealer, &mut desired).await?;
        open_secrets::<Ppk>(&mut transaction, sealer, &mut desired).await?;
        open_secrets::<Certificate>(&mut transaction, sealer, &mut desired).await?;
    }
    Ok(desired)
}

fn insert(desired: &mut Desired, kind: Kind, name: &str, body: &str) -> Result<(), StoreError> {
    fn put<R: Resource>(desired: &mut Desired, name: &str, body: &str) -> Result<(), StoreError> {
        let (name, resource) = decode::<R>(name, body)?;
        R::of_mut(desired).insert(name, resource);
        Ok(())
    }
    match kind {
        Kind::Site => put::<Site>(desired, name, body),
        Kind::Interface => put::<Interface>(desired, name, body),
        Kind::IsakmpPolicy => put::<IsakmpPolicy>(desired, name, body),
        Kind::PreSharedKey => put::<PreSharedKey>(desired, name, body),
        Kind::Ppk => put::<Ppk>(desired, name, body),
        Kind::Certificate => put::<Certificate>(desired, name, body),
        Kind::TransformSet => put::<TransformSet>(desired, name, body),
        Kind::IpsecProfile => put::<IpsecProfile>(desired, name, body),
        Kind::AccessList => put::<AccessList>(desired, name, body),
        Kind::CryptoMap => put::<CryptoMap>(desired, name, body),
        Kind::Tunnel => put::<Tunnel>(desired, name, body),
        Kind::Route => put::<Route>(desired, name, body),
    }
}

async fn open_secrets<R: Resource>(
    connection: &mut sqlx::SqliteConnection,
    sealer: &Sealer,
    desired: &mut Desired,
) -> Result<(), StoreError> {
    let Some(field) = R::SECRET_FIELD else { return Ok(()) };
    for (name, secret) in sealed::read_all(connection, sealer, R::KIND, field).await? {
        if let Some(resource) = name.parse().ok().and_then(|name| R::of_mut(desired).get_mut(&name)) {
            resource.set_secret(Some(secret));
        }
    }
    Ok(())
}
