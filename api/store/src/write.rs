//! Writing and deleting: one transaction each, whole or not at all.

use model::check::{Violation, violations, warnings};
use model::read::FieldError;
use model::{Desired, Resource};
use sqlx::SqliteConnection;

use crate::error::StoreError;
use crate::resource::{self, Row, Stored, generation_of};
use crate::{Inner, Store, desired, sealed, unix_ms, uses};

/// What must hold of a resource before it is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing.
    #[default]
    None,
    /// `If-None-Match: *`: it does not exist.
    Absent,
    /// `If-Match: *`: it exists.
    Present,
    /// `If-Match: "7", "9"`: it is at one of these generations.
    Generation(Vec<u64>),
}

/// The outcome of a write.
#[derive(Clone, Debug, PartialEq)]
pub struct Written<R: Resource> {
    /// Whether it did not exist before.
    pub created: bool,
    /// As it stands now.
    pub stored: Stored<R>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<FieldError>,
}

impl Store {
    /// Makes or replaces a resource. Writing what stands there already changes nothing, not even the generation.
    ///
    /// # Errors
    /// [`StoreError::PreconditionFailed`]; [`StoreError::Invalid`] for dangling references and what
    /// [`model::check`] finds; [`StoreError::Database`] and its like. Nothing is written then.
    pub async fn write<R: Resource>(
        &self,
        name: R::Name,
        resource: R,
        precondition: Precondition,
    ) -> Result<Written<R>, StoreError> {
        let inner = self.inner.clone();
        // In a task of its own: a client that hangs up must not stop a write between its commit and its announcement.
        tokio::spawn(async move { inner.write(name, resource, &precondition).await })
            .await
            .map_err(|_| StoreError::Interrupted)?
    }

    /// Deletes a resource.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::PreconditionFailed`]; [`StoreError::InUse`] and
    /// [`StoreError::Needed`] while others depend on it; [`StoreError::Database`] and its like.
    pub async fn delete<R: Resource>(
        &self,
        name: R::Name,
        precondition: Precondition,
    ) -> Result<(), StoreError> {
        let inner = self.inner.clone();
        tokio::spawn(async move { inner.delete::<R>(&name, &precondition).await })
            .await
            .map_err(|_| StoreError::Interrupted)?
    }
}

impl Inner {
    async fn write<R: Resource>(
        &self,
        name: R::Name,
        resource: R,
        precondition: &Precondition,
    ) -> Result<Written<R>, StoreError> {
        let mut cache = self.cache.lock().await;
        let mut desired = self.take(&mut cache).await?;
        let before = R::of(&desired).get(&name).cloned();
        let outcome = self.write_row(&mut desired, &name, resource, before.as_ref(), precondition).await;
        match &outcome {
            Ok(written) => {
                R::of_mut(&mut desired).insert(name, written.stored.resource.clone());
                self.announce(&mut desired, written.stored.generation);
            }
            Err(_) => put_back(&mut desired, name, before),
        }
        *cache = Some(desired);
        outcome
    }

    async fn write_row<R: Resource>(
        &self,
        desired: &mut Desired,
        name: &R::Name,
        mut resource: R,
        before: Option<&R>,
        precondition: &Precondition,
    ) -> Result<Written<R>, StoreError> {
        let (kind, text) = (R::KIND.plural(), name.to_string());
        let mut transaction = self.database.write().await?;
        let current = resource::select(&mut *transaction, kind, &text).await?;
        precondition.hold(current.as_ref())?;

        let references = resource.references();
        let dangling = references.iter().filter(|it| !desired.contains(it.kind, &it.name));
        let mut errors: Vec<FieldError> = dangling
            .map(|it| FieldError {
                pointer: it.pointer.clone(),
                detail: format!("there is no {}/{}", it.kind, it.name),
            })
            .collect();
        if let Some(field) = R::SECRET_FIELD
            && resource.needs_secret()
            && resource.secret().is_none()
        {
            match sealed::read(&mut transaction, &self.sealer, R::KIND, &text, field).await? {
                Some(kept) => errors.extend(resource.fits(&kept).err()),
                None => {
                    let detail = format!("is required when a {} is made", R::KIND.singular());
                    errors.push(FieldError { pointer: format!("/{field}"), detail });
                }
            }
        }
        if !errors.is_empty() {
            return Err(StoreError::Invalid(errors));
        }
        R::of_mut(desired).insert(name.clone(), resource.clone());
        refuse_violations::<R>(desired, &text)?;
        let mut warnings = warnings(desired, R::KIND, &text);
        let lost = before.map(|before| resource.takes_away(before)).unwrap_or_default();
        if !lost.is_empty() && !uses::of(&mut transaction, R::KIND, &text).await?.is_empty() {
            warnings.extend(lost);
        }

        let secret_changed =
            self.settle_secret(&mut transaction, &text, &mut resource, current.as_ref()).await?;
        let secret = resource.secret().cloned();
        resource.set_secret(None);
        let body = resource::encode(&text, &resource)?;
        let now = unix_ms();
        let created = current.is_none();
        let stored = match current {
            Some(current) if current.body == body && !secret_changed => Stored::try_from(current)?,
            current => {
                let row = Row {
                    name: text.clone(),
                    generation: resource::count_change(&mut *transaction).await?,
                    created_at_ms: current.as_ref().map_or(now, |row| row.created_at_ms),
                    updated_at_ms: now,
                    body,
                    fingerprint: None,
                };
                match &current {
                    None => resource::insert(&mut *transaction, kind, &row).await?,
                    Some(current) => {
                        if !resource::update(&mut *transaction, kind, &row, current.generation).await? {
                            let current = Some(generation_of(current.generation));
                            return Err(StoreError::PreconditionFailed { current });
                        }
                    }
                }
                uses::replace(&mut transaction, R::KIND, &text, &references).await?;
                if let (Some(field), Some(secret), true) = (R::SECRET_FIELD, &secret, secret_changed) {
                    sealed::write(&mut transaction, &self.sealer, R::KIND, &text, field, secret).await?;
                }
                let fingerprint = match &secret {
                    Some(secret) => Some(self.sealer.fingerprint(secret)),
                    None => current.and_then(|row| row.fingerprint),
                };
                Stored::try_from(Row { fingerprint, ..row })?
            }
        };
        transaction.commit().await?;
        Ok(Written { created, stored, warnings })
    }

    /// Whether the secret that was written is another one than before; gives it the next version if so and if the
    /// writer chose none.
    async fn settle_secret<R: Resource>(
        &self,
        connection: &mut SqliteConnection,
        name: &str,
        resource: &mut R,
        current: Option<&Row>,
    ) -> Result<bool, StoreError> {
        let Some(field) = R::SECRET_FIELD else { return Ok(false) };
        let before = sealed::read(connection, &self.sealer, R::KIND, name, field).await?;
        let changed = resource.secret().is_some() && resource.secret() != before.as_ref();
        if resource.secret_version().is_none() {
            let stored = current.map(|row| resource::decode::<R>(name, &row.body)).transpose()?;
            let version = stored.and_then(|(_, stored)| stored.secret_version()).unwrap_or(0);
            resource.set_secret_version(if changed { version.saturating_add(1) } else { version });
        }
        Ok(changed)
    }

    async fn delete<R: Resource>(
        &self,
        name: &R::Name,
        precondition: &Precondition,
    ) -> Result<(), StoreError> {
        let mut cache = self.cache.lock().await;
        let mut desired = self.take(&mut cache).await?;
        let before = R::of_mut(&mut desired).remove(name);
        let outcome = self.delete_row::<R>(&desired, name, precondition).await;
        match &outcome {
            Ok(generation) => self.announce(&mut desired, *generation),
            Err(_) => put_back(&mut desired, name.clone(), before),
        }
        *cache = Some(desired);
        outcome.map(drop)
    }

    async fn delete_row<R: Resource>(
        &self,
        desired: &Desired,
        name: &R::Name,
        precondition: &Precondition,
    ) -> Result<u64, StoreError> {
        let (kind, text) = (R::KIND.plural(), name.to_string());
        let mut transaction = self.database.write().await?;
        let current = resource::select(&mut *transaction, kind, &text).await?;
        if current.is_none() && *precondition == Precondition::None {
            return Err(StoreError::NotFound { kind: R::KIND, name: text });
        }
        precondition.hold(current.as_ref())?;
        let Some(current) = current else {
            return Err(StoreError::NotFound { kind: R::KIND, name: text });
        };
        let users = uses::of(&mut transaction, R::KIND, &text).await?;
        if !users.is_empty() {
            return Err(StoreError::InUse(users));
        }
        let needed = violations(desired, R::KIND);
        if !needed.is_empty() {
            return Err(StoreError::Needed(needed.iter().map(Violation::to_string).collect()));
        }
        if !resource::delete(&mut *transaction, kind, &text, current.generation).await? {
            return Err(StoreError::PreconditionFailed { current: Some(generation_of(current.generation)) });
        }
        let generation = resource::count_change(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(generation_of(generation))
    }

    async fn take(&self, cache: &mut Option<Desired>) -> Result<Desired, StoreError> {
        match cache.take() {
            Some(desired) => Ok(desired),
            None => desired::load(&self.database, None).await,
        }
    }

    fn announce(&self, desired: &mut Desired, generation: u64) {
        if generation > desired.generation {
            desired.generation = generation;
            self.generation.send_replace(generation);
        }
    }
}

impl Precondition {
    fn hold(&self, current: Option<&Row>) -> Result<(), StoreError> {
        let current = current.map(|row| generation_of(row.generation));
        let holds = match self {
            Self::None => true,
            Self::Absent => current.is_none(),
            Self::Present => current.is_some(),
            Self::Generation(allowed) => current.is_some_and(|generation| allowed.contains(&generation)),
        };
        if holds { Ok(()) } else { Err(StoreError::PreconditionFailed { current }) }
    }
}

/// What is wrong in the resource itself keeps its pointer; what becomes wrong elsewhere is told at the root.
fn refuse_violations<R: Resource>(desired: &Desired, name: &str) -> Result<(), StoreError> {
    let (own, others): (Vec<_>, Vec<_>) =
        violations(desired, R::KIND).into_iter().partition(|it| it.kind == R::KIND && it.name == name);
    let mut errors: Vec<FieldError> = own.into_iter().map(|it| it.error).collect();
    // The same fact is often told from both ends; the own end is enough then.
    if errors.is_empty() {
        errors = others
            .iter()
            .map(|it| FieldError { pointer: String::new(), detail: format!("makes {it}") })
            .collect();
    }
    if errors.is_empty() { Ok(()) } else { Err(StoreError::Invalid(errors)) }
}

fn put_back<R: Resource>(desired: &mut Desired, name: R::Name, before: Option<R>) {
    match before {
        Some(before) => R::of_mut(desired).insert(name, before),
        None => R::of_mut(desired).remove(&name),
    };
}
