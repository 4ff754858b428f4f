//! Numbers of the IANA registries of ISAKMP and the IPsec DOI that the engine speaks.

/// Payload types (RFC 2408 section 3.1, RFC 3947 sections 3.2 and 5.2).
pub(crate) mod payload {
    pub(crate) const NONE: u8 = 0;
    pub(crate) const SA: u8 = 1;
    pub(crate) const PROPOSAL: u8 = 2;
    pub(crate) const TRANSFORM: u8 = 3;
    pub(crate) const KE: u8 = 4;
    pub(crate) const ID: u8 = 5;
    pub(crate) const CERTIFICATE: u8 = 6;
    pub(crate) const CERTIFICATE_REQUEST: u8 = 7;
    pub(crate) const HASH: u8 = 8;
    pub(crate) const SIGNATURE: u8 = 9;
    pub(crate) const NONCE: u8 = 10;
    pub(crate) const NOTIFY: u8 = 11;
    pub(crate) const DELETE: u8 = 12;
    pub(crate) const VENDOR: u8 = 13;
    pub(crate) const NAT_D: u8 = 20;
    pub(crate) const NAT_OA: u8 = 21;
    /// The same in the drafts 02 and 03.
    pub(crate) const NAT_D_DRAFT: u8 = 130;
    pub(crate) const NAT_OA_DRAFT: u8 = 131;
    /// A piece of a message (Cisco's fragmentation).
    pub(crate) const FRAGMENT: u8 = 132;
}

/// Protocols (RFC 2407 section 4.4.1).
pub(crate) mod protocol {
    pub(crate) const ISAKMP: u8 = 1;
    pub(crate) const ESP: u8 = 3;
}

/// Attributes of phase 1 (RFC 2409 appendix A).
pub(crate) mod phase_one {
    pub(crate) const ENCRYPTION: u16 = 1;
    pub(crate) const HASH: u16 = 2;
    pub(crate) const AUTHENTICATION: u16 = 3;
    pub(crate) const GROUP: u16 = 4;
    pub(crate) const LIFE_TYPE: u16 = 11;
    pub(crate) const LIFE_DURATION: u16 = 12;
    pub(crate) const KEY_LENGTH: u16 = 14;
    pub(crate) const TRANSFORM_KEY_IKE: u8 = 1;
    pub(crate) const TRIPLE_DES_CBC: u64 = 5;
    pub(crate) const AES_CBC: u64 = 7;
    pub(crate) const PRE_SHARED_KEY: u64 = 1;
    pub(crate) const RSA_SIGNATURE: u64 = 3;
    /// RFC 4754 section 7.
    pub(crate) const ECDSA_P256: u64 = 9;
    pub(crate) const ECDSA_P384: u64 = 10;
}

/// Attributes of phase 2 (RFC 2407 section 4.5).
pub(crate) mod phase_two {
    pub(crate) const LIFE_TYPE: u16 = 1;
    pub(crate) const LIFE_DURATION: u16 = 2;
    pub(crate) const GROUP: u16 = 3;
    pub(crate) const ENCAPSULATION: u16 = 4;
    pub(crate) const AUTHENTICATION: u16 = 5;
    pub(crate) const KEY_LENGTH: u16 = 6;
    /// RFC 4304; its only value says that sequence numbers have 64 bits.
    pub(crate) const EXTENDED_SEQUENCE_NUMBER: u16 = 11;
    pub(crate) const ESN_64_BIT: u64 = 1;
    pub(crate) const ESP_3DES: u8 = 3;
    pub(crate) const ESP_AES_CBC: u8 = 12;
    pub(crate) const ESP_AES_GCM_16: u8 = 20;
}

/// Life types, of both phases.
pub(crate) const LIFE_SECONDS: u64 = 1;
pub(crate) const LIFE_KILOBYTES: u64 = 2;

/// Notify message types (RFC 2408 section 3.14.1, RFC 2407 section 4.6.3, RFC 3706 section 5.4).
pub(crate) mod notify {
    pub(crate) const NO_PROPOSAL_CHOSEN: u16 = 14;
    pub(crate) const PAYLOAD_MALFORMED: u16 = 16;
    pub(crate) const INVALID_ID_INFORMATION: u16 = 18;
    /// First of the status types; all below are errors.
    pub(crate) const FIRST_STATUS: u16 = 16384;
    pub(crate) const RESPONDER_LIFETIME: u16 = 24576;
    pub(crate) const INITIAL_CONTACT: u16 = 24578;
    pub(crate) const R_U_THERE: u16 = 36136;
    pub(crate) const R_U_THERE_ACK: u16 = 36137;

    /// The registry's name, for causes and logs.
    pub(crate) fn name(kind: u16) -> String {
        let name = match kind {
            1 => "INVALID-PAYLOAD-TYPE",
            4 => "INVALID-COOKIE",
            7 => "INVALID-EXCHANGE-TYPE",
            9 => "INVALID-MESSAGE-ID",
            11 => "INVALID-SPI",
            13 => "ATTRIBUTES-NOT-SUPPORTED",
            NO_PROPOSAL_CHOSEN => "NO-PROPOSAL-CHOSEN",
            15 => "BAD-PROPOSAL-SYNTAX",
            PAYLOAD_MALFORMED => "PAYLOAD-MALFORMED",
            17 => "INVALID-KEY-INFORMATION",
            INVALID_ID_INFORMATION => "INVALID-ID-INFORMATION",
            23 => "INVALID-HASH-INFORMATION",
            24 => "AUTHENTICATION-FAILED",
            other => return format!("notification {other}"),
        };
        name.to_owned()
    }
}
