//! How many sessions may begin in a second, and when those come again that may not.
//!
//! After an outage all agents come at once. A session that begins costs more than one that goes on, so a bucket bounds
//! how many do. Whoever finds it empty is told a moment of their own to come again, one behind the other at the bucket's
//! pace: so a herd is a queue after its first try. Whoever comes unasked for may take the place of one who was told to
//! come; that one is told anew. Nothing is kept of who was told what.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Nobody is told to come later than this.
const LONGEST: Duration = Duration::from_secs(60);

/// The bucket.
#[derive(Debug)]
pub struct Admission {
    per_second: f64,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// Sessions that may begin now: at most those of a second.
    places: f64,
    /// Those who were told to come, less those whose moment has passed.
    expected: f64,
    since: Instant,
}

impl Admission {
    pub fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second.max(1));
        Self { per_second, bucket: Mutex::new(Bucket { places: per_second, expected: 0.0, since: Instant::now() }) }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// There is none: how long from now on one is likely.
    pub fn ask(&self) -> Result<(), Duration> {
        let (now, bucket) = (Instant::now(), &mut *self.bucket.lock());
        let new = now.saturating_duration_since(bucket.since).as_secs_f64() * self.per_second;
        bucket.since = now;
        bucket.places = (bucket.places + new).min(self.per_second);
        bucket.expected = (bucket.expected - new).max(0.0);
        if bucket.places >= 1.0 {
            bucket.places -= 1.0;
            return Ok(());
        }
        bucket.expected = (bucket.expected + 1.0).min(LONGEST.as_secs_f64() * self.per_second);
        Err(Duration::from_secs_f64(bucket.expected / self.per_second))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::time::sleep_until;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_herd_comes_back_at_the_pace_of_the_bucket_and_is_all_admitted() {
        let admission = Admission::new(100);
        let mut waiting = BTreeMap::from([(Instant::now(), 1000)]);
        let (began, mut asked, mut busiest) = (Instant::now(), 0, 0);
        while let Some((moment, agents)) = waiting.pop_first() {
            sleep_until(moment).await;
            for _ in 0..agents {
                asked += 1;
                if let Err(again) = admission.ask() {
                    *waiting.entry(Instant::now() + again).or_default() += 1;
                }
            }
            if moment > began {
                busiest = busiest.max(agents);
            }
        }
        let took = began.elapsed();
        assert!(took < Duration::from_secs(12), "{took:?} for 900 beyond the first 100");
        assert!(asked < 2500, "{asked} times asked");
        assert!(busiest < 10, "{busiest} came again at once");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_told_to_come_later_than_the_longest_wait() {
        let admission = Admission::new(1);
        let waits: Vec<_> = (0..200).map(|_| admission.ask()).collect();
        assert_eq!((waits[0], waits[1]), (Ok(()), Err(Duration::from_secs(1))));
        assert_eq!(waits[199], Err(LONGEST));
    }
}
