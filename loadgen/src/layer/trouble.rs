//! Why TLS failed, as one number for the log and one sentence for people.
//!
//! Up to 255 the number is that of the alert that the peer sent (RFC 8446 section 6); from 256 on
//! it is a finding of ours. Numbers are in logs and never change meaning.

use latlog::Outcome;
use rustls::{CertificateError, Error, InvalidMessage, PeerIncompatible, PeerMisbehaved};

use super::Failure;

/// Findings from 256 on, each with its words.
const FINDINGS: [&str; 12] = [
    "the certificate comes from no known issuer",
    "the certificate has expired",
    "the certificate is not valid yet",
    "the certificate is for another name",
    "the certificate is revoked",
    "the certificate cannot be used",
    "no version, cipher or key exchange in common",
    "what answers does not speak TLS",
    "the peer breaks the protocol",
    "a record cannot be decrypted",
    "TLS failed",
    "a message or record is larger than TLS or this client allows",
];
const FINDINGS_FROM: i32 = 256;

/// The alerts that a server may send for what a client does, with their names (RFC 8446 section 6).
const ALERTS: [(i32, &str); 24] = [
    (0, "close_notify"),
    (10, "unexpected_message"),
    (20, "bad_record_mac"),
    (22, "record_overflow"),
    (40, "handshake_failure"),
    (42, "bad_certificate"),
    (43, "unsupported_certificate"),
    (44, "certificate_revoked"),
    (45, "certificate_expired"),
    (46, "certificate_unknown"),
    (47, "illegal_parameter"),
    (48, "unknown_ca"),
    (49, "access_denied"),
    (50, "decode_error"),
    (51, "decrypt_error"),
    (70, "protocol_version"),
    (71, "insufficient_security"),
    (80, "internal_error"),
    (86, "inappropriate_fallback"),
    (90, "user_canceled"),
    (109, "missing_extension"),
    (112, "unrecognized_name"),
    (116, "certificate_required"),
    (120, "no_application_protocol"),
];

/// The words for a number.
pub fn describe(detail: i32) -> Option<String> {
    if let Some((_, name)) = ALERTS.iter().find(|(number, _)| *number == detail) {
        return Some(format!("alert {name}"));
    }
    match detail {
        0..=255 => Some(format!("alert {detail}")),
        _ => {
            let index = usize::try_from(detail.checked_sub(FINDINGS_FROM)?).ok()?;
            FINDINGS.get(index).map(|&words| words.to_owned())
        }
    }
}

/// The failure that an error of rustls is.
pub(super) fn failure(error: &Error) -> Failure {
    let detail = match error {
        Error::AlertReceived(alert) => i32::from(u8::from(*alert)),
        Error::InvalidCertificate(cause) => FINDINGS_FROM + certificate(cause),
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => FINDINGS_FROM + 6,
        Error::PeerSentOversizedRecord
        | Error::InvalidMessage(
            InvalidMessage::MessageTooLarge
            | InvalidMessage::HandshakePayloadTooLarge
            | InvalidMessage::CertificatePayloadTooLarge,
        ) => FINDINGS_FROM + 11,
        Error::InvalidMessage(_) => FINDINGS_FROM + 7,
        Error::PeerMisbehaved(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::NoCertificatesPresented => FINDINGS_FROM + 8,
        Error::DecryptError => FINDINGS_FROM + 9,
        _ => FINDINGS_FROM + 10,
    };
    Failure { outcome: Outcome::Tls, detail, text: sentence(error) }
}

fn certificate(cause: &CertificateError) -> i32 {
    use CertificateError as E;
    match cause {
        // An issuer of the right name whose key is another.
        E::UnknownIssuer | E::BadSignature => 0,
        E::Expired | E::ExpiredContext { .. } => 1,
        E::NotValidYet | E::NotValidYetContext { .. } => 2,
        E::NotValidForName | E::NotValidForNameContext { .. } => 3,
        E::Revoked => 4,
        _ => 5,
    }
}

/// What happened and, where the options have an answer to it, which one.
fn sentence(error: &Error) -> String {
    use CertificateError as E;
    let hint = match error {
        Error::InvalidCertificate(E::UnknownIssuer | E::BadSignature) => {
            ": give the certificate of its issuer by --ca FILE"
        }
        Error::InvalidCertificate(E::NotValidForName | E::NotValidForNameContext { .. }) => {
            ": ask for the name that it has by --server-name"
        }
        Error::InvalidCertificate(E::Expired | E::ExpiredContext { .. }) => {
            ": renew it, or test without trust by --insecure"
        }
        Error::AlertReceived(alert) if matches!(u8::from(*alert), 116 | 42 | 40 | 48) => {
            ": does it want a client certificate (--cert FILE --key FILE)?"
        }
        Error::InvalidMessage(
            InvalidMessage::MessageTooLarge
            | InvalidMessage::HandshakePayloadTooLarge
            | InvalidMessage::CertificatePayloadTooLarge,
        ) => "",
        Error::InvalidMessage(_) => ": is it spoken to in clear on this port?",
        Error::PeerIncompatible(PeerIncompatible::ServerRejectedEncryptedClientHello(_)) => "",
        Error::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedApplicationProtocol) => {
            ": see --alpn"
        }
        Error::NoApplicationProtocol => ": see --alpn",
        _ => "",
    };
    format!("{error}{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_words_of_its_own() {
        let known: Vec<String> = (0..256 + FINDINGS.len() as i32).filter_map(describe).collect();
        assert_eq!(known.len(), 256 + FINDINGS.len());
        assert!(known.iter().all(|words| known.iter().filter(|w| *w == words).count() == 1));
        assert_eq!(describe(256 + FINDINGS.len() as i32), None);
        assert_eq!(describe(-1), None);
        assert_eq!(describe(116).as_deref(), Some("alert certificate_required"));
    }

    #[test]
    fn a_failure_names_what_to_do() {
        let unknown = failure(&Error::InvalidCertificate(CertificateError::UnknownIssuer));
        assert_eq!((unknown.outcome, unknown.detail), (Outcome::Tls, 256));
        assert!(unknown.text.contains("--ca FILE"), "{}", unknown.text);
        let expired = failure(&Error::InvalidCertificate(CertificateError::Expired));
        assert_eq!(describe(expired.detail).as_deref(), Some("the certificate has expired"));
    }
}
