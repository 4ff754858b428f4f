//! Cookies (RFC 7296 section 2.6): proof that the initiator receives at its address, without state.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq;

use crate::Hash;
use crate::crypto::{Random, Secret, prf};
use crate::exchange::after;

const ROTATION: Duration = Duration::from_secs(60);
const SECRET_LEN_BYTES: usize = 32;
const MAC_LEN_BYTES: usize = 16;

struct Epoch {
    version: u8,
    secret: Secret,
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
    ) -> Vec<u8> {
        let epoch = self.rotate(now, random);
        seal(epoch, nonce, address, spi_i)
    }

    pub(crate) fn verify(&self, cookie: &[u8], nonce: &[u8], address: IpAddr, spi_i: u64) -> bool {
        [&self.current, &self.previous].into_iter().flatten().any(|epoch| {
            cookie.first() == Some(&epoch.version)
                && bool::from(seal(epoch, nonce, address, spi_i).ct_eq(cookie))
        })
    }

    fn rotate(&mut self, now: Instant, random: &mut Random) -> &Epoch {
        if self.current.as_ref().is_none_or(|epoch| now >= epoch.ends) {
            let version = self.current.as_ref().map_or(0, |epoch| epoch.version.wrapping_add(1));
            self.previous = self.current.take();
            self.current =
                Some(Epoch { version, secret: random.secret(SECRET_LEN_BYTES), ends: after(now, ROTATION) });
        }
        self.current.get_or_insert_with(|| Epoch {
            version: 0,
            secret: random.secret(SECRET_LEN_BYTES),
            ends: after(now, ROTATION),
        })
    }
}

fn seal(epoch: &Epoch, nonce: &[u8], address: IpAddr, spi_i: u64) -> Vec<u8> {
    let address = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    let mac = prf(Hash::Sha2_256, &epoch.secret, &[nonce, &address, &spi_i.to_be_bytes()]);
    let mut cookie = vec![epoch.version];
    cookie.extend(mac.iter().take(MAC_LEN_BYTES));
    cookie
}
