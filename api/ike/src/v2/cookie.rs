//! Cookies (RFC 7296 section 2.6): proof that the initiator receives at its address, without state.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::crypto::{Random, hmac_sha256};
use crate::exchange::after;

/// How long cookies are made with a secret; those made with it are good for as long again.
const ROTATION: Duration = Duration::from_secs(60);
const MAC_LEN_BYTES: usize = 16;
/// The version of the secret, and a MAC.
const COOKIE_LEN_BYTES: usize = 1 + MAC_LEN_BYTES;

type Cookie = [u8; COOKIE_LEN_BYTES];

struct Epoch {
    version: u8,
    secret: Zeroizing<[u8; 32]>,
    ends: Instant,
}

/// Makes and checks cookies under the current secret and the one before it.
#[derive(Default)]
pub(crate) struct CookieJar {
    current: Option<Epoch>,
    previous: Option<Epoch>,
}

impl CookieJar {
    /// `version | HMAC(secret, Ni | address | SPIi)`; the port is left out, as a NAT may change it.
    pub(crate) fn cookie(
        &mut self,
        now: Instant,
        random: &mut Random,
        nonce: &[u8],
        address: IpAddr,
        spi_i: u64,
    ) -> Cookie {
        let epoch = self.rotate(now, random);
        seal(epoch, nonce, address, spi_i)
    }

    /// A secret is over when its time is, whether another one has come or not.
    pub(crate) fn verify(
        &self,
        now: Instant,
        cookie: &[u8],
        nonce: &[u8],
        address: IpAddr,
        spi_i: u64,
    ) -> bool {
        [&self.current, &self.previous].into_iter().flatten().any(|epoch| {
            cookie.first() == Some(&epoch.version)
                && now < after(epoch.ends, ROTATION)
                && bool::from(seal(epoch, nonce, address, spi_i).ct_eq(cookie))
        })
    }

    fn rotate(&mut self, now: Instant, random: &mut Random) -> &Epoch {
        let next = |version, random: &mut Random| Epoch {
            version,
            secret: Zeroizing::new(random.array()),
            ends: after(now, ROTATION),
        };
        if let Some(current) = self.current.take_if(|epoch| now >= epoch.ends) {
            self.current = Some(next(current.version.wrapping_add(1), random));
            self.previous = Some(current);
        }
        self.current.get_or_insert_with(|| next(0, random))
    }
}

fn seal(epoch: &Epoch, nonce: &[u8], address: IpAddr, spi_i: u64) -> Cookie {
    let address = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    let mac = hmac_sha256(&epoch.secret, &[nonce, &address, &spi_i.to_be_bytes()]);
    let mut cookie = [epoch.version; COOKIE_LEN_BYTES];
    for (place, byte) in cookie.iter_mut().skip(1).zip(mac) {
        *place = byte;
    }
    cookie
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    const NONCE: &[u8] = b"a nonce of the initiator";
    const SPI: u64 = 7;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn a_cookie_is_good_for_its_address_nonce_and_spi_alone() {
        let (mut jar, mut random, now) = (CookieJar::default(), Random::new([1; 32]), Instant::now());
        let cookie = jar.cookie(now, &mut random, NONCE, address(1), SPI);
        assert!(jar.verify(now, &cookie, NONCE, address(1), SPI));
        assert!(!jar.verify(now, &cookie, NONCE, address(2), SPI));
        assert!(!jar.verify(now, &cookie, b"another nonce of an initiator", address(1), SPI));
        assert!(!jar.verify(now, &cookie, NONCE, address(1), SPI + 1));
        assert!(!jar.verify(now, &cookie[..16], NONCE, address(1), SPI));
        for at in 0..cookie.len() {
            let mut forged = cookie;
            forged[at] ^= 1;
            assert!(!jar.verify(now, &forged, NONCE, address(1), SPI), "at {at}");
        }
    }

    #[test]
    fn a_secret_is_over_in_time_though_no_other_cookie_was_asked_for() {
        let (mut jar, mut random, now) = (CookieJar::default(), Random::new([1; 32]), Instant::now());
        let cookie = jar.cookie(now, &mut random, NONCE, address(1), SPI);
        let good_at = |jar: &CookieJar, secs| {
            jar.verify(now + Duration::from_secs(secs), &cookie, NONCE, address(1), SPI)
        };
        assert!(good_at(&jar, 119));
        assert!(!good_at(&jar, 120));
        // The one that came next does not make it good again, nor does it end it early.
        jar.cookie(now + Duration::from_secs(100), &mut random, NONCE, address(2), SPI);
        assert!(good_at(&jar, 119));
        assert!(!good_at(&jar, 120));
        let next = jar.cookie(now + Duration::from_secs(500), &mut random, NONCE, address(1), SPI);
        assert!(jar.verify(now + Duration::from_secs(500), &next, NONCE, address(1), SPI));
        assert!(!good_at(&jar, 500));
    }
}
