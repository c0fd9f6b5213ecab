//! The files of one side: its certificate with its key, the authorities that it believes, and what they took back.

use std::{
    fs,
    hash::{DefaultHasher, Hasher},
    io::Read,
    path::PathBuf,
    sync::Arc,
};

use tokio_rustls::rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};

use webpki::OwnedCertRevocationList;

use super::{Error, Validity};

/// No file of certificates is larger; a list of what was taken back may have some ten thousand entries.
const MAX_FILE: u64 = 4 << 20;

/// A file, and the setting that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub setting: &'static str,
    pub path: PathBuf,
}

/// What one side has. All are PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Its own certificate, then those between it and the authority.
    pub certificate: File,
    pub key: File,
    /// The authorities that sign the other side's certificates. Several, while one takes over from another.
    pub authorities: File,
    /// Lists of certificates that the authorities took back.
    pub revoked: Vec<File>,
}

/// What files held.
#[derive(Debug)]
pub struct Material {
    pub(super) files: Files,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) authorities: Arc<RootCertStore>,
    pub(super) revoked: Vec<CertificateRevocationListDer<'static>>,
    /// The same, as they are looked things up in.
    pub(super) lists: Vec<OwnedCertRevocationList>,
    pub(super) validity: Validity,
    /// Of the bytes of all files.
    pub(super) digest: u64,
}

impl File {
    pub fn new(setting: &'static str, path: impl Into<PathBuf>) -> Self {
        Self { setting, path: path.into() }
    }

    fn bytes(&self, digest: &mut DefaultHasher) -> Result<Vec<u8>, Error> {
        let failed = |source| Error::Read { setting: self.setting, path: self.path.clone(), source };
        let mut bytes = Vec::new();
        let file = fs::File::open(&self.path).map_err(failed)?;
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(Error::TooLarge { setting: self.setting, path: self.path.clone(), limit: MAX_FILE });
        }
        digest.write_usize(bytes.len());
        digest.write(&bytes);
        Ok(bytes)
    }

    /// All of a kind, at least one.
    fn all<T: PemObject>(&self, what: &'static str, digest: &mut DefaultHasher) -> Result<Vec<T>, Error> {
        let bytes = self.bytes(digest)?;
        let all: Result<Vec<T>, pem::Error> = T::pem_slice_iter(&bytes).collect();
        let all = all.map_err(|source| self.not_pem(what, source))?;
        if all.is_empty() { Err(self.empty(what)) } else { Ok(all) }
    }

    /// Authorities that are believed.
    pub(super) fn roots(&self) -> Result<RootCertStore, Error> {
        self.roots_into(&mut DefaultHasher::new())
    }

    fn roots_into(&self, digest: &mut DefaultHasher) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        for authority in self.all::<CertificateDer<'static>>("certificate", digest)? {
            roots.add(authority).map_err(|source| self.unusable(source))?;
        }
        Ok(roots)
    }

    fn not_pem(&self, what: &'static str, source: pem::Error) -> Error {
        match source {
            pem::Error::NoItemsFound => self.empty(what),
            source => Error::Pem { setting: self.setting, path: self.path.clone(), what, source },
        }
    }

    fn empty(&self, what: &'static str) -> Error {
        Error::Empty { setting: self.setting, path: self.path.clone(), what }
    }

    pub(super) fn malformed(&self) -> Error {
        Error::Malformed { setting: self.setting, path: self.path.clone() }
    }

    fn no_list(&self, source: webpki::Error) -> Error {
        Error::RevocationList { setting: self.setting, path: self.path.clone(), source }
    }

    pub(super) fn unusable(&self, source: tokio_rustls::rustls::Error) -> Error {
        Error::Unusable { setting: self.setting, path: self.path.clone(), source }
    }
}

impl Files {
    /// The files of `[tls]` as settings name them; nothing, if none is named.
    ///
    /// # Errors
    /// The setting that is empty while others are not.
    pub fn named(
        certificate: PathBuf,
        key: PathBuf,
        authorities: PathBuf,
        revoked: Vec<PathBuf>,
    ) -> Result<Option<Self>, &'static str> {
        let files = [
            File::new("tls.certificate_file", certificate),
            File::new("tls.key_file", key),
            File::new("tls.ca_file", authorities),
        ];
        let is_empty = |file: &&File| file.path.as_os_str().is_empty();
        if revoked.is_empty() && files.iter().all(|file| is_empty(&file)) {
            return Ok(None);
        }
        if let Some(missing) = files.iter().find(is_empty) {
            return Err(missing.setting);
        }
        let [certificate, key, authorities] = files;
        let revoked = revoked.into_iter().map(|path| File::new("tls.crl_files", path)).collect();
        Ok(Some(Self { certificate, key, authorities, revoked }))
    }

    /// # Errors
    /// A file is not there, or does not hold what it should.
    pub fn read(&self) -> Result<Material, Error> {
        let mut digest = DefaultHasher::new();
        let chain: Vec<CertificateDer<'static>> = self.certificate.all("certificate", &mut digest)?;
        let validity = chain.first().and_then(Validity::of).ok_or_else(|| self.certificate.malformed())?;
        let key = self.key.bytes(&mut digest)?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|source| self.key.not_pem("private key", source))?;
        let authorities = self.authorities.roots_into(&mut digest)?;
        let (mut revoked, mut lists) = (Vec::new(), Vec::new());
        for file in &self.revoked {
            for list in file.all::<CertificateRevocationListDer<'static>>("revocation list", &mut digest)? {
                lists.push(OwnedCertRevocationList::from_der(&list).map_err(|source| file.no_list(source))?);
                revoked.push(list);
            }
        }
        let (authorities, digest) = (Arc::new(authorities), digest.finish());
        Ok(Material { files: self.clone(), chain, key, authorities, revoked, lists, validity, digest })
    }
}

impl Material {
    /// Of the side's own certificate.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    pub(super) fn not_valid_now(&self) -> Error {
        let File { setting, path } = self.files.certificate.clone();
        Error::NotValidNow { setting, path, validity: self.validity }
    }
}
