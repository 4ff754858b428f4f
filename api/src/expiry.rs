//! When certificates expire: for the metrics and the health view.

use control::view::HealthPart;
use model::Certificate;
use store::StoreError;
use time::OffsetDateTime;

use crate::state::Gateway;

/// A certificate's name and when the first of what it holds expires, in seconds since 1970.
pub(crate) type Expiry = (String, u64);

/// All certificates by name.
///
/// # Errors
/// The database cannot be read.
pub(crate) async fn expiries(gateway: &Gateway) -> Result<Vec<Expiry>, StoreError> {
    const PAGE: u32 = 100;
    let mut found: Vec<Expiry> = Vec::new();
    loop {
        let after = found.last().map(|(name, _)| name.clone());
        let page = gateway.store.page::<Certificate>(after.as_deref(), PAGE).await?;
        found.extend(
            page.items.iter().map(|stored| (stored.name.to_string(), stored.resource.expires_unix_secs())),
        );
        if !page.more {
            return Ok(found);
        }
    }
}

/// Not well when a certificate has expired; says so two weeks before.
pub(crate) fn health(expiries: &[Expiry], now: OffsetDateTime) -> HealthPart {
    const NOTICE_DAYS: i64 = 14;
    let days_left = |unix_secs: u64| {
        (i64::try_from(unix_secs).unwrap_or(i64::MAX).saturating_sub(now.unix_timestamp())).div_euclid(86_400)
    };
    let name = "certificates";
    let Some((first, unix_secs)) = expiries.iter().min_by_key(|(_, unix_secs)| *unix_secs) else {
        return HealthPart { name, ok: true, detail: "there are none".to_owned() };
    };
    let (ok, detail) = match days_left(*unix_secs) {
        ..0 => (false, format!("{first} has expired")),
        days @ 0..NOTICE_DAYS => (true, format!("{first} expires in {days} days")),
        days => {
            (true, format!("{} certificates; the first to expire is {first} in {days} days", expiries.len()))
        }
    };
    HealthPart { name, ok, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_certificate_is_not_well_and_one_that_soon_does_is_named() {
        let now = OffsetDateTime::from_unix_timestamp(1_780_315_200).unwrap();
        let at = |days: i64| u64::try_from(now.unix_timestamp() + days * 86_400).unwrap();
        let of = |expiries: &[(&str, i64)]| {
            let expiries: Vec<Expiry> =
                expiries.iter().map(|(name, days)| ((*name).to_owned(), at(*days))).collect();
            let part = health(&expiries, now);
            (part.ok, part.detail)
        };
        assert_eq!(of(&[]), (true, "there are none".to_owned()));
        assert_eq!(of(&[("gw", 5), ("ca", 900)]), (true, "gw expires in 5 days".to_owned()));
        assert_eq!(of(&[("gw", 5), ("ca", -1)]), (false, "ca has expired".to_owned()));
        let plenty = (true, "1 certificates; the first to expire is gw in 90 days".to_owned());
        assert_eq!(of(&[("gw", 90)]), plenty);
    }
}
