//! Lists, page by page in the order of names.

use model::Resource;

use crate::Store;
use crate::error::StoreError;
use crate::resource::{Row, Stored};

/// Some resources of a kind, in the order of their names.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<R: Resource> {
    /// At most as many as were asked for.
    pub items: Vec<Stored<R>>,
    /// Whether there are more behind the last one.
    pub more: bool,
}

impl Store {
    /// At most `limit` resources whose names come after `after`. Seeks by key: a page costs the same wherever it is,
    /// and names made or deleted meanwhile neither repeat nor hide others.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], [`StoreError::Database`].
    pub async fn page<R: Resource>(&self, after: Option<&str>, limit: u32) -> Result<Page<R>, StoreError> {
        let (kind, after) = (R::KIND.plural(), after.unwrap_or_default());
        let one_more = i64::from(limit) + 1;
        let mut rows = sqlx::query_as!(
            Row,
            r#"SELECT r.name, r.generation, r.created_at_ms, r.updated_at_ms, r.body, s.fingerprint AS "fingerprint?"
               FROM resources r LEFT JOIN sealed s ON s.kind = r.kind AND s.name = r.name
               WHERE r.kind = ? AND r.name > ? ORDER BY r.name LIMIT ?"#,
            kind,
            after,
            one_more
        )
        .fetch_all(self.inner.database.readers())
        .await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let items = rows.into_iter().map(Stored::try_from).collect::<Result<_, _>>()?;
        Ok(Page { items, more })
    }
}
