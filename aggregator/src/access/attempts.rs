//! How often requests from an address were refused, so that nobody tries without end.
//!
//! Counted by the minute: who had too many in it waits until it is over, and is refused before anything of its requests
//! is looked at. An address of IPv6 counts as its network of 64 bits, of which one machine has as many as it likes. The
//! table is bounded. An address that finds no room in it is looked at each time, and counted: a token cannot be guessed
//! anyway, and nobody shall be kept out for the number of others.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use parking_lot::Mutex;
use prometheus::IntCounter;
use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);
const MAX_ADDRESSES: usize = 10_000;
const NETWORK: u128 = !0 << 64;

pub(super) struct Attempts {
    /// In a minute.
    most: u32,
    minute: Mutex<Minute>,
    untracked: IntCounter,
}

struct Minute {
    began: Instant,
    refused: HashMap<IpAddr, u32>,
}

impl Attempts {
    pub(super) fn new(most: u32, untracked: IntCounter) -> Self {
        Self { most, minute: Mutex::new(Minute { began: Instant::now(), refused: HashMap::new() }), untracked }
    }

    /// # Errors
    /// There were too many: how long to wait.
    pub(super) fn check(&self, address: IpAddr) -> Result<(), Duration> {
        let mut minute = self.minute.lock();
        let left = minute.left();
        match minute.refused.get(&network(address)) {
            Some(refused) if *refused >= self.most => Err(left),
            _ => Ok(()),
        }
    }

    /// Whether it is worth a line in the log.
    pub(super) fn refused(&self, address: IpAddr) -> bool {
        let mut minute = self.minute.lock();
        minute.left();
        let address = network(address);
        let is_full = minute.refused.len() >= MAX_ADDRESSES;
        match minute.refused.get_mut(&address) {
            Some(refused) => *refused = refused.saturating_add(1),
            None if is_full => self.untracked.inc(),
            None => drop(minute.refused.insert(address, 1)),
        }
        minute.refused.get(&address).is_some_and(|refused| *refused <= self.most)
    }
}

impl Minute {
    /// Of this minute; another begins when it is over.
    fn left(&mut self) -> Duration {
        let left = MINUTE.saturating_sub(self.began.elapsed());
        if !left.is_zero() {
            return left;
        }
        self.began = Instant::now();
        self.refused.clear();
        MINUTE
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempts(most: u32) -> Attempts {
        Attempts::new(most, IntCounter::new("untracked", "help").unwrap())
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_with_too_many_waits_for_the_next_minute_and_no_other_does() {
        let attempts = attempts(3);
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 0..3 {
            attempts.check(one).unwrap();
            assert!(attempts.refused(one));
        }
        tokio::time::advance(MINUTE / 4).await;
        assert_eq!(attempts.check(one), Err(MINUTE * 3 / 4));
        assert_eq!(attempts.check(address("::ffff:192.0.2.1")), Err(MINUTE * 3 / 4));
        assert!(!attempts.refused(one));
        attempts.check(other).unwrap();
        tokio::time::advance(MINUTE * 3 / 4).await;
        attempts.check(one).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_of_ipv6_counts_as_one() {
        let attempts = attempts(1);
        attempts.refused(address("2001:db8::1"));
        assert!(attempts.check(address("2001:db8::ffff:1")).is_err());
        assert!(attempts.check(address("2001:db8:0:1::1")).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_table_keeps_nobody_out_who_is_not_in_it() {
        let attempts = attempts(1);
        for n in 0..MAX_ADDRESSES as u32 + 5 {
            attempts.refused(IpAddr::V4(n.into()));
        }
        assert_eq!((attempts.minute.lock().refused.len(), attempts.untracked.get()), (MAX_ADDRESSES, 5));
        assert!(attempts.check(IpAddr::V4(0.into())).is_err());
        assert!(attempts.check(IpAddr::V4((MAX_ADDRESSES as u32 + 1).into())).is_ok());
    }
}
