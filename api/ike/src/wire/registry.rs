//! Numbers of the IANA registry "IKEv2 Parameters" that the engine speaks.

/// Payload types (RFC 7296 section 3.2).
pub(crate) mod payload {
    pub(crate) const NONE: u8 = 0;
    pub(crate) const SA: u8 = 33;
    pub(crate) const KE: u8 = 34;
    pub(crate) const ID_I: u8 = 35;
    pub(crate) const ID_R: u8 = 36;
    pub(crate) const CERT: u8 = 37;
    pub(crate) const CERTREQ: u8 = 38;
    pub(crate) const AUTH: u8 = 39;
    pub(crate) const NONCE: u8 = 40;
    pub(crate) const NOTIFY: u8 = 41;
    pub(crate) const DELETE: u8 = 42;
    pub(crate) const VENDOR: u8 = 43;
    pub(crate) const TS_I: u8 = 44;
    pub(crate) const TS_R: u8 = 45;
    pub(crate) const ENCRYPTED: u8 = 46;
    /// Encrypted and Authenticated Fragment (RFC 7383 section 2.5).
    pub(crate) const FRAGMENT: u8 = 53;
    /// The types that RFC 7296 itself defines, SA to EAP: all of them are understood, if only to be skipped. Those below were
    /// version 1's.
    pub(crate) const UNDERSTOOD: std::ops::RangeInclusive<u8> = SA..=48;
}

/// Transform ids (RFC 7296 section 3.3.2, RFC 5282, RFC 8031, RFC 4868, RFC 7634).
pub(crate) mod transform {
    pub(crate) const ENCR_3DES: u16 = 3;
    pub(crate) const ENCR_AES_CBC: u16 = 12;
    pub(crate) const ENCR_AES_GCM_16: u16 = 20;
    /// Its key has one length alone, so it stands without that attribute (RFC 7634 section 4).
    pub(crate) const ENCR_CHACHA20_POLY1305: u16 = 28;
    pub(crate) const INTEG_NONE: u16 = 0;
    pub(crate) const KE_NONE: u16 = 0;
    pub(crate) const ESN_NONE: u16 = 0;
    pub(crate) const ESN: u16 = 1;
}

/// Notify message types (RFC 7296 section 3.10.1).
pub(crate) mod notify {
    pub(crate) const UNSUPPORTED_CRITICAL_PAYLOAD: u16 = 1;
    pub(crate) const INVALID_IKE_SPI: u16 = 4;
    pub(crate) const INVALID_MAJOR_VERSION: u16 = 5;
    pub(crate) const INVALID_SYNTAX: u16 = 7;
    pub(crate) const NO_PROPOSAL_CHOSEN: u16 = 14;
    pub(crate) const INVALID_KE_PAYLOAD: u16 = 17;
    pub(crate) const AUTHENTICATION_FAILED: u16 = 24;
    pub(crate) const NO_ADDITIONAL_SAS: u16 = 35;
    pub(crate) const TS_UNACCEPTABLE: u16 = 38;
    pub(crate) const UNACCEPTABLE_ADDRESSES: u16 = 40;
    pub(crate) const UNEXPECTED_NAT_DETECTED: u16 = 41;
    pub(crate) const TEMPORARY_FAILURE: u16 = 43;
    pub(crate) const CHILD_SA_NOT_FOUND: u16 = 44;
    pub(crate) const STATE_NOT_FOUND: u16 = 47;
    /// First of the status types; all below are errors.
    pub(crate) const FIRST_STATUS: u16 = 16384;
    pub(crate) const INITIAL_CONTACT: u16 = 16384;
    pub(crate) const NAT_DETECTION_SOURCE_IP: u16 = 16388;
    pub(crate) const NAT_DETECTION_DESTINATION_IP: u16 = 16389;
    pub(crate) const COOKIE: u16 = 16390;
    pub(crate) const USE_TRANSPORT_MODE: u16 = 16391;
    pub(crate) const REKEY_SA: u16 = 16393;
    pub(crate) const ESP_TFC_PADDING_NOT_SUPPORTED: u16 = 16394;
    pub(crate) const MOBIKE_SUPPORTED: u16 = 16396;
    pub(crate) const UPDATE_SA_ADDRESSES: u16 = 16400;
    pub(crate) const COOKIE2: u16 = 16401;
    pub(crate) const NO_NATS_ALLOWED: u16 = 16402;
    pub(crate) const ADDITIONAL_KEY_EXCHANGE: u16 = 16441;
    /// RFC 6023 section 4.
    pub(crate) const CHILDLESS_IKEV2_SUPPORTED: u16 = 16418;
    /// RFC 7427 section 4.
    pub(crate) const SIGNATURE_HASH_ALGORITHMS: u16 = 16431;
    /// RFC 8784 section 5.
    pub(crate) const USE_PPK: u16 = 16435;
    pub(crate) const PPK_IDENTITY: u16 = 16436;
    pub(crate) const NO_PPK_AUTH: u16 = 16437;
    /// RFC 9242 section 3.1.
    pub(crate) const INTERMEDIATE_EXCHANGE_SUPPORTED: u16 = 16438;
    /// RFC 7383 section 2.3.
    pub(crate) const IKEV2_FRAGMENTATION_SUPPORTED: u16 = 16430;

    /// The registry's name, for causes and logs.
    pub(crate) fn name(kind: u16) -> String {
        let name = match kind {
            UNSUPPORTED_CRITICAL_PAYLOAD => "UNSUPPORTED_CRITICAL_PAYLOAD",
            INVALID_IKE_SPI => "INVALID_IKE_SPI",
            INVALID_MAJOR_VERSION => "INVALID_MAJOR_VERSION",
            INVALID_SYNTAX => "INVALID_SYNTAX",
            9 => "INVALID_MESSAGE_ID",
            11 => "INVALID_SPI",
            NO_PROPOSAL_CHOSEN => "NO_PROPOSAL_CHOSEN",
            INVALID_KE_PAYLOAD => "INVALID_KE_PAYLOAD",
            AUTHENTICATION_FAILED => "AUTHENTICATION_FAILED",
            34 => "SINGLE_PAIR_REQUIRED",
            NO_ADDITIONAL_SAS => "NO_ADDITIONAL_SAS",
            36 => "INTERNAL_ADDRESS_FAILURE",
            37 => "FAILED_CP_REQUIRED",
            TS_UNACCEPTABLE => "TS_UNACCEPTABLE",
            39 => "INVALID_SELECTORS",
            TEMPORARY_FAILURE => "TEMPORARY_FAILURE",
            CHILD_SA_NOT_FOUND => "CHILD_SA_NOT_FOUND",
            other => return format!("notification {other}"),
        };
        name.to_owned()
    }
}

/// Shared Key Message Integrity Code (RFC 7296 section 3.8).
pub(crate) const AUTH_METHOD_SHARED_KEY: u8 = 2;
/// ECDSA with SHA-256 on P-256 (RFC 4754), and its siblings.
pub(crate) const AUTH_METHOD_ECDSA_P256: u8 = 9;
/// ECDSA with SHA-384 on P-384.
pub(crate) const AUTH_METHOD_ECDSA_P384: u8 = 10;
/// ECDSA with SHA-512 on P-521.
pub(crate) const AUTH_METHOD_ECDSA_P521: u8 = 11;
/// Digital Signature (RFC 7427 section 3).
pub(crate) const AUTH_METHOD_DIGITAL_SIGNATURE: u8 = 14;

/// X.509 Certificate - Signature (RFC 7296 section 3.6).
pub(crate) const CERTIFICATE_X509_SIGNATURE: u8 = 4;
