//! Certificates for a load: of its aggregator, of who asks it, and of each agent.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use galen_certificates::{Authority, Subject, Validity};
use galen_runtime::tls::{self, Dialler, File, Files};

/// For the longest measurement.
const DAYS: u32 = 7;

pub(super) struct Certificates {
    authority: Authority,
    dir: PathBuf,
}

impl Certificates {
    /// With its files in `dir`.
    pub(super) fn new(dir: &Path) -> Result<Self> {
        let new = Self { authority: Authority::new("galen", Validity::days(DAYS))?, dir: dir.to_owned() };
        fs::write(dir.join("ca.pem"), new.authority.certificate())?;
        new.write("aggregator", Subject::Aggregator(&["127.0.0.1".to_owned()]))?;
        Ok(new)
    }

    /// Of the aggregator.
    pub(super) fn settings(&self) -> Vec<String> {
        let file = |key: &str, name: &str| format!("tls.{key}=\"{}\"", self.dir.join(name).display());
        vec![file("certificate_file", "aggregator.pem"), file("key_file", "aggregator.key"), file("ca_file", "ca.pem")]
    }

    pub(super) fn user(&self) -> Result<Dialler> {
        self.dialler(Subject::User("load"))
    }

    pub(super) fn node(&self, name: &str) -> Result<Dialler> {
        self.dialler(Subject::Node(name))
    }

    fn dialler(&self, subject: Subject<'_>) -> Result<Dialler> {
        let files = self.write("client", subject)?;
        Ok(Dialler::new(tls::client(&files.read()?, tls::HTTP_2)?, None)?)
    }

    fn write(&self, name: &str, subject: Subject<'_>) -> Result<Files> {
        let issued = self.authority.issue(subject, Validity::days(DAYS))?;
        let [certificate, key] = ["pem", "key"].map(|kind| self.dir.join(format!("{name}.{kind}")));
        fs::write(&certificate, issued.certificate)?;
        fs::write(&key, issued.key)?;
        Ok(Files {
            certificate: File::new("certificate", certificate),
            key: File::new("key", key),
            authorities: File::new("ca", self.dir.join("ca.pem")),
            revoked: Vec::new(),
        })
    }
}
