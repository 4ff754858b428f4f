//! What is insecure, and used only where it is allowed by name.

use crate::word::words;

words! {
    /// Something insecure that `allow_insecure` may name.
    pub enum Insecure as "something that can be allowed" {
        /// IKE version 1 (RFC 2409), historic since RFC 9395.
        Ikev1 = "ikev1",
        /// Triple DES.
        TripleDes = "3des",
        /// MD5, alone or in HMAC.
        Md5 = "md5",
        /// SHA-1, alone or in HMAC.
        Sha1 = "sha1",
        /// Diffie-Hellman group 2.
        Modp1024 = "modp1024",
        /// Diffie-Hellman group 5.
        Modp1536 = "modp1536",
        /// Aggressive mode of IKEv1.
        AggressiveMode = "aggressive-mode",
    }
    weak {}
}

impl Insecure {
    /// Why: a clause that follows "is insecure: ".
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Ikev1 => {
                "version 1 of IKE is historic (RFC 9395): it has no defence against floods, and who guesses its \
                 pre-shared key once can read and pose"
            }
            Self::TripleDes => {
                "its block of 64 bits leaks what it protects after some gigabytes (RFC 8247, RFC 8221, Sweet32)"
            }
            Self::Md5 => "collisions of MD5 are made in seconds (RFC 8247, RFC 8221)",
            Self::Sha1 => "collisions of SHA-1 have been made (RFC 8247, RFC 8221)",
            Self::Modp1024 => "who has the means of a state can break group 2 (RFC 8247, Logjam)",
            Self::AggressiveMode => {
                "it shows both identities to everyone, and a hash of the pre-shared key to whoever asks, who can guess the \
                 key from it at leisure (RFC 2409 section 5.4)"
            }
            Self::Modp1536 => "group 5 is too small for what is kept secret for years (RFC 8247)",
        }
    }

    /// Why it is refused where `allow_insecure` does not name it.
    pub(crate) fn refusal(self) -> String {
        format!("{self} is insecure: {}; to use it, name it in allow_insecure", self.reason())
    }
}
