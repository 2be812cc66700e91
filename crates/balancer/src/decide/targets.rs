//! Which target group and which target gets a request.

use crate::config::Algorithm;

/// What the choice needs to know of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its health checks pass.
    pub healthy: bool,
    /// It is deregistered: it never gets a new request.
    pub draining: bool,
    /// It has been tried for this request already.
    pub tried: bool,
    /// Requests in flight.
    pub in_flight: usize,
    /// Share of a full target's requests during slow start, 1 to 1000; 1000 outside it.
    pub share_permille: u32,
}

/// The target for a request among `count` targets, or `None` when none is registered (or all were tried).
///
/// Healthy targets only; if none is healthy, all that are registered (ALB "fails open").
/// `turn` is the group's request counter, `draw` a random number: both are used only for their spread.
pub fn choose_target(
    algorithm: Algorithm,
    count: usize,
    candidate: impl Fn(usize) -> Candidate,
    turn: u64,
    draw: u64,
) -> Option<usize> {
    let (mut healthy, mut registered, mut slow) = (0_u64, 0_u64, false);
    for i in 0..count {
        let c = candidate(i);
        if !c.draining && !c.tried {
            registered += 1;
            healthy += u64::from(c.healthy);
            slow |= c.healthy && c.share_permille < 1000;
        }
    }
    let fail_open = healthy == 0;
    let eligible = |c: &Candidate| !c.draining && !c.tried && (fail_open || c.healthy);
    let total = if fail_open { registered } else { healthy };
    // Targets may change between the two passes (other threads): the passes below then still find some target.
    match algorithm {
        _ if total == 0 => None,
        Algorithm::RoundRobin if slow => by_share(count, &candidate, &eligible, draw),
        Algorithm::RoundRobin => {
            let wanted = (turn % total) as usize;
            let mut seen = (0..count).filter(|i| eligible(&candidate(*i)));
            seen.nth(wanted).or_else(|| (0..count).find(|i| eligible(&candidate(*i))))
        }
        // Ties go by turn, so that idle targets share evenly.
        Algorithm::LeastOutstandingRequests => (0..count)
            .map(|i| (i + turn as usize) % count)
            .map(|i| (i, candidate(i)))
            .filter(|(_, c)| eligible(c))
            .min_by_key(|(_, c)| c.in_flight as u64 * 1000 / u64::from(c.share_permille.max(1)))
            .map(|(i, _)| i),
    }
}

fn by_share(
    count: usize,
    candidate: &impl Fn(usize) -> Candidate,
    eligible: &impl Fn(&Candidate) -> bool,
    draw: u64,
) -> Option<usize> {
    let share = |i: usize| Some(candidate(i)).filter(eligible).map_or(0, |c| c.share_permille.max(1));
    choose_weighted((0..count).map(share), draw)
}

/// An index with probability proportional to its weight, given a random draw; `None` when all weights are 0.
pub fn choose_weighted(weights: impl Iterator<Item = u32> + Clone, draw: u64) -> Option<usize> {
    let total: u64 = weights.clone().map(u64::from).sum();
    let mut left = draw.checked_rem(total)?;
    for (i, weight) in weights.enumerate() {
        match left.checked_sub(u64::from(weight)) {
            Some(rest) => left = rest,
            None => return Some(i),
        }
    }
    None
}

/// A target's share (1 to 1000) `since_healthy_ms` after it became healthy: it grows linearly over the slow start.
pub fn slow_start_share_permille(slow_start_ms: u64, since_healthy_ms: u64) -> u32 {
    if since_healthy_ms >= slow_start_ms {
        1000
    } else {
        (since_healthy_ms * 1000 / slow_start_ms).max(1) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FULL: Candidate =
        Candidate { healthy: true, draining: false, tried: false, in_flight: 0, share_permille: 1000 };

    fn choose(algorithm: Algorithm, targets: &[Candidate], turn: u64, draw: u64) -> Option<usize> {
        choose_target(algorithm, targets.len(), |i| targets[i], turn, draw)
    }

    /// Every combination of three targets' flags: the chosen one is allowed, and there is one when one is allowed.
    #[test]
    fn exhaustive_three_targets() {
        let decode = |bits: u32| Candidate {
            healthy: bits & 1 != 0,
            draining: bits & 2 != 0,
            tried: bits & 4 != 0,
            in_flight: (bits >> 3 & 1) as usize,
            share_permille: if bits & 16 != 0 { 300 } else { 1000 },
        };
        for bits in 0..1 << 15 {
            let targets = [decode(bits), decode(bits >> 5), decode(bits >> 10)];
            let open: Vec<_> = (0..3).filter(|i| !targets[*i].draining && !targets[*i].tried).collect();
            let healthy: Vec<_> = open.iter().copied().filter(|i| targets[*i].healthy).collect();
            let allowed = if healthy.is_empty() { &open } else { &healthy };
            for algorithm in [Algorithm::RoundRobin, Algorithm::LeastOutstandingRequests] {
                for turn in 0..4 {
                    let chosen = choose(algorithm, &targets, turn, turn * 977);
                    assert_eq!(chosen.is_some(), !allowed.is_empty(), "{targets:?}");
                    assert!(
                        chosen.is_none_or(|i| allowed.contains(&i)),
                        "{algorithm:?} {targets:?} {chosen:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn round_robin_is_even_over_the_healthy() {
        let sick = Candidate { healthy: false, ..FULL };
        let targets = [FULL, sick, FULL, FULL];
        let turns: Vec<_> =
            (0..6).map(|turn| choose(Algorithm::RoundRobin, &targets, turn, 0).unwrap()).collect();
        assert_eq!(turns, [0, 2, 3, 0, 2, 3]);
    }

    #[test]
    fn least_outstanding_takes_the_idlest() {
        let busy = |in_flight| Candidate { in_flight, ..FULL };
        let targets = [busy(3), busy(1), busy(2)];
        assert!((0..9).all(|turn| choose(Algorithm::LeastOutstandingRequests, &targets, turn, 0) == Some(1)));
        let ties = [busy(1), busy(1)];
        let turns: Vec<_> =
            (0..4).map(|turn| choose(Algorithm::LeastOutstandingRequests, &ties, turn, 0).unwrap()).collect();
        assert_eq!(turns, [0, 1, 0, 1]);
    }

    #[test]
    fn slow_start_grows() {
        assert_eq!(slow_start_share_permille(0, 0), 1000);
        assert_eq!(slow_start_share_permille(30_000, 0), 1);
        assert_eq!(slow_start_share_permille(30_000, 15_000), 500);
        assert_eq!(slow_start_share_permille(30_000, 30_000), 1000);
        let targets = [FULL, Candidate { share_permille: 250, ..FULL }];
        let second =
            (0..5000).filter(|draw| choose(Algorithm::RoundRobin, &targets, 0, *draw) == Some(1)).count();
        assert_eq!(second, 1000, "a quarter of the other's share is a fifth of all");
    }

    proptest! {
        #[test]
        fn weights_are_exact_over_a_full_cycle(weights in proptest::collection::vec(0_u32..20, 0..6)) {
            let total: u32 = weights.iter().sum();
            let mut counts = vec![0; weights.len()];
            for draw in 0..u64::from(total) {
                counts[choose_weighted(weights.iter().copied(), draw).unwrap()] += 1;
            }
            prop_assert_eq!(counts, weights.clone());
            prop_assert_eq!(choose_weighted(weights.iter().copied(), 7).is_none(), total == 0);
        }
    }
}
