use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use galen_certificates::{Authority, Issued, Subject, Validity};
use tempfile::{TempDir, tempdir};

use super::*;
use crate::Chain;

/// Well-formed PEM of something else.
const NO_LIST: &str = "-----BEGIN X509 CRL-----\nMAMCAQE=\n-----END X509 CRL-----\n";

struct Scratch {
    dir: TempDir,
    authority: Authority,
}

impl Scratch {
    fn new() -> Self {
        let scratch = Self { dir: tempdir().unwrap(), authority: Authority::new("galen", Validity::days(10)).unwrap() };
        fs::write(scratch.path("ca.pem"), scratch.authority.certificate()).unwrap();
        scratch
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn node(&self, name: &str, days: u32) -> Issued {
        self.authority.issue(Subject::Node(name), Validity::days(days)).unwrap()
    }

    fn put(&self, issued: &Issued) {
        fs::write(self.path("own.pem"), &issued.certificate).unwrap();
        fs::write(self.path("own.key"), &issued.key).unwrap();
    }

    fn files(&self) -> Files {
        let file = |setting, name: &str| File::new(setting, self.path(name));
        Files {
            certificate: file("tls.certificate_file", "own.pem"),
            key: file("tls.key_file", "own.key"),
            authorities: file("tls.ca_file", "ca.pem"),
            revoked: Vec::new(),
        }
    }

    fn reloaded(&self) -> Reloaded<Identity> {
        Reloaded::load(self.files(), |material| {
            client(material, HTTP_2)?;
            Ok(Identity::of(&material.chain[0], "galen"))
        })
        .unwrap()
    }
}

/// Ended an hour ago.
fn past() -> Validity {
    let until = Validity::days(0).from;
    Validity { from: until - Duration::from_secs(60), until }
}

fn node(name: &str) -> Identity {
    Identity::Node(name.into())
}

#[test]
fn a_name_counts_only_within_its_trust_domain() {
    let scratch = Scratch::new();
    scratch.put(&scratch.node("web-1.example", 1));
    let certificate = &scratch.files().read().unwrap().chain[0];
    assert_eq!(Identity::of(certificate, "galen"), node("web-1.example"));
    for other in ["gale", "galen.example", ""] {
        assert_eq!(Identity::of(certificate, other), Identity::Unnamed, "{other}");
    }
    let user = scratch.authority.issue(Subject::User("ada"), Validity::days(1)).unwrap();
    scratch.put(&user);
    assert_eq!(Identity::of(&scratch.files().read().unwrap().chain[0], "galen"), Identity::User("ada".into()));
    let hosts = ["localhost".to_owned()];
    scratch.put(&scratch.authority.issue(Subject::Aggregator(&hosts), Validity::days(1)).unwrap());
    assert_eq!(Identity::of(&scratch.files().read().unwrap().chain[0], "galen"), Identity::Unnamed);
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_setting() {
    let scratch = Scratch::new();
    let (one, other) = (scratch.node("one", 1), scratch.node("other", 1));
    scratch.put(&one);
    let refused = |name: &str, content: &str, setting: &str, why: &str| {
        let path = scratch.path(name);
        let before = fs::read(&path).unwrap();
        fs::write(&path, content).unwrap();
        let error = scratch.files().read().and_then(|material| client(&material, HTTP_2).map(drop)).unwrap_err();
        let text = Chain(&error).to_string();
        assert!(text.contains(setting) && text.contains(name) && text.contains(why), "{text}");
        fs::write(&path, before).unwrap();
    };
    refused("own.pem", "", "tls.certificate_file", "no certificate");
    refused("own.pem", &one.key, "tls.certificate_file", "no certificate");
    refused("own.pem", &one.certificate[..200], "tls.certificate_file", "PEM");
    refused("own.key", &one.certificate, "tls.key_file", "no private key");
    refused("own.key", &other.key, "tls.key_file", "KeyMismatch");
    refused("ca.pem", "none", "tls.ca_file", "no certificate");
    for (list, why) in [("none", "no revocation list"), (NO_LIST, "cannot be used")] {
        fs::write(scratch.path("crl.pem"), list).unwrap();
        let revoked = vec![File::new("tls.crl_files", scratch.path("crl.pem"))];
        let text = Chain(&Files { revoked, ..scratch.files() }.read().unwrap_err()).to_string();
        assert!(text.contains("tls.crl_files") && text.contains(why), "{text}");
    }
    fs::remove_file(scratch.path("ca.pem")).unwrap();
    let text = Chain(&scratch.files().read().unwrap_err()).to_string();
    assert!(text.contains("tls.ca_file") && text.contains("ca.pem"), "{text}");
}

#[test]
fn new_files_are_taken_as_a_whole_or_not_at_all() {
    let scratch = Scratch::new();
    scratch.put(&scratch.node("before", 1));
    let reloaded = scratch.reloaded();
    reloaded.look().unwrap();
    let expiry = reloaded.expiry();

    let after = scratch.node("after", 5);
    fs::write(scratch.path("own.pem"), &after.certificate).unwrap();
    reloaded.look().unwrap_err();
    assert_eq!((reloaded.current(), reloaded.errors(), reloaded.expiry()), (node("before"), 1, expiry));

    fs::write(scratch.path("own.key"), &after.key).unwrap();
    reloaded.look().unwrap();
    assert_eq!((reloaded.current(), reloaded.errors()), (node("after"), 1));
    assert!(reloaded.expiry() > expiry);

    scratch.put(&scratch.authority.issue(Subject::Node("past"), past()).unwrap());
    let text = reloaded.look().unwrap_err().to_string();
    assert!(text.contains("not valid now"), "{text}");
    assert_eq!((reloaded.current(), reloaded.errors()), (node("after"), 2));
}

#[test]
fn a_certificate_that_has_ended_is_no_reason_not_to_start() {
    let scratch = Scratch::new();
    scratch.put(&scratch.authority.issue(Subject::Node("late"), past()).unwrap());
    let reloaded = scratch.reloaded();
    assert_eq!(reloaded.current(), node("late"));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert!(reloaded.expiry() < now.as_secs() as i64);
}

#[test]
fn a_file_without_end_is_not_read_to_its_end() {
    let scratch = Scratch::new();
    scratch.put(&scratch.node("one", 1));
    let files = Files { certificate: File::new("tls.certificate_file", Path::new("/dev/zero")), ..scratch.files() };
    let text = files.read().unwrap_err().to_string();
    assert!(text.contains("larger than"), "{text}");
}
