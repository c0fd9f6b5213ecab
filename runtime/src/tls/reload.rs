//! Certificates that change while the process runs.
//!
//! The files are looked at now and then, and on SIGHUP. What they hold is taken as a whole: one that is missing, does not
//! fit the others or is not valid now leaves everything as it was, is counted at each look, and told once. Whoever writes
//! the files one after the other is therefore understood when the last is there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use parking_lot::{Mutex, RwLock};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Error, Files, Material, Validity};
use crate::{Chain, signal::Hangups};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

type Make<C> = Box<dyn Fn(&Material) -> Result<C, Error> + Send + Sync>;

/// What is made of certificate files, as they were when they were last good.
pub struct Reloaded<C> {
    files: Files,
    make: Make<C>,
    current: RwLock<Current<C>>,
    /// What was last told to be wrong. Held throughout a look, so that there is one at a time.
    told: Mutex<String>,
    errors: AtomicU64,
}

struct Current<C> {
    made: C,
    validity: Validity,
    digest: u64,
}

impl<C> Current<C> {
    fn of(material: &Material, made: C) -> Self {
        Self { made, validity: material.validity, digest: material.digest }
    }
}

impl<C: Clone> Reloaded<C> {
    /// Reads `files`, and makes of them what `make` makes. A certificate that is not valid now is used, with a warning: it
    /// may be the clock that is wrong, and it is the other side that decides.
    ///
    /// # Errors
    /// The files cannot be used.
    pub fn load(
        files: Files,
        make: impl Fn(&Material) -> Result<C, Error> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let material = files.read()?;
        if !material.validity.holds(SystemTime::now()) {
            tracing::warn!("{}", material.not_valid_now());
        }
        let current = RwLock::new(Current::of(&material, make(&material)?));
        Ok(Self { files, make: Box::new(make), current, told: Mutex::default(), errors: AtomicU64::new(0) })
    }

    /// The newest.
    pub fn current(&self) -> C {
        self.current.read().made.clone()
    }

    /// When the own certificate ends, in seconds since 1970.
    pub fn expiry(&self) -> i64 {
        self.current.read().validity.not_after
    }

    /// Looks that found files which cannot be used.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Looks at the files, and takes what is new in them.
    ///
    /// # Errors
    /// They cannot be used; what was before holds on.
    pub fn look(&self) -> Result<(), Error> {
        let mut told = self.told.lock();
        match self.take() {
            Ok(new) => {
                told.clear();
                if let Some(validity) = new {
                    tracing::info!(%validity, file = %self.files.certificate.path.display(), "certificates were read again");
                }
                Ok(())
            }
            Err(error) => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                let text = Chain(&error).to_string();
                if *told != text {
                    tracing::error!(error = text, "the new certificates were refused, those of before hold on");
                    *told = text;
                }
                Err(error)
            }
        }
    }

    fn take(&self) -> Result<Option<Validity>, Error> {
        let material = self.files.read()?;
        if self.current.read().digest == material.digest {
            return Ok(None);
        }
        if !material.validity.holds(SystemTime::now()) {
            return Err(material.not_valid_now());
        }
        let new = Current::of(&material, (self.make)(&material)?);
        *self.current.write() = new;
        Ok(Some(material.validity))
    }
}

impl<C: Clone + Send + Sync + 'static> Reloaded<C> {
    /// Looks at the files until `stop` is cancelled.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut hangups = Hangups::new();
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = hangups.next() => {}
                _ = ticks.tick() => {}
            }
            let this = Arc::clone(&self);
            // What came of it was counted and told.
            let _ = tokio::task::spawn_blocking(move || this.look().is_ok()).await;
        }
    }
}
