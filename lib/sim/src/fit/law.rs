//! Laws of times by their quantiles, and whether two are alike.

use parm_workload::faults::Service;

/// The quantile of sorted times at a share, linear between them; 0 without times.
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * sorted.len().saturating_sub(1) as f64;
    let at = |place: f64| sorted.get(place as usize).copied().unwrap_or(0.0);
    let (low, high) = (at(place.floor()), at(place.ceil()));
    low + (high - low) * place.fract()
}

/// The law of these sorted times, in ms: a quantile for each hundredth, and from 90 % on ten for each power of ten of
/// the share above.
pub(super) fn law(sorted: &[f64]) -> Service {
    let (Some(&least), Some(&most)) = (sorted.first(), sorted.last()) else { return Service::default() };
    if least == most {
        return Service::Constant { ms: rounded(least, 4) };
    }
    let body = (0..90).map(|percent| f64::from(percent) / 100.0);
    let tail = (10..).map(|tenth| 1.0 - 10_f64.powf(-f64::from(tenth) / 10.0));
    let tail = tail.take_while(|share| (1.0 - share) * sorted.len() as f64 >= 1.0);
    let inner = body.chain(tail).map(|share| (rounded(share, 8), rounded(quantile(sorted, share), 4)));
    Service::Quantiles { quantiles: inner.chain([(1.0, rounded(most, 4))]).collect() }
}

pub(super) fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    (value * scale).round() / scale
}

/// True if two samples, both sorted, may be of one law: their distribution functions differ nowhere by more than a
/// twentieth, or not significantly (Kolmogorov and Smirnov's test at the level 0.0001).
pub(super) fn are_alike(one: &[f64], other: &[f64]) -> bool {
    const LEAST: f64 = 0.05;
    const LEVEL: f64 = 1e-4;
    let [n, m] = [one, other].map(|sample| sample.len() as f64);
    let critical = ((2.0 / LEVEL).ln() / 2.0 * (n + m) / (n * m)).sqrt();
    distance(one, other) <= LEAST.max(critical)
}

/// The greatest difference of the distribution functions of two sorted samples.
fn distance(one: &[f64], other: &[f64]) -> f64 {
    let (mut i, mut j, mut most) = (0, 0, 0.0_f64);
    while let (Some(a), Some(b)) = (one.get(i), other.get(j)) {
        let now = a.min(*b);
        i += one.iter().skip(i).take_while(|time| **time <= now).count();
        j += other.iter().skip(j).take_while(|time| **time <= now).count();
        most = most.max((i as f64 / one.len() as f64 - j as f64 / other.len() as f64).abs());
    }
    most
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn a_law_has_the_quantiles_of_its_times() {
        let times: Vec<f64> = (0..=10_000).map(|number| f64::from(number) / 10.0).collect();
        let law = law(&times);
        law.check().unwrap();
        let Service::Quantiles { quantiles } = law else { panic!("{law:?}") };
        assert_eq!(
            (quantiles[0], quantiles[50], quantiles[quantiles.len() - 1]),
            ((0.0, 0.0), (0.5, 500.0), (1.0, 1000.0))
        );
        assert!(quantiles.iter().all(|(share, ms)| (share * 1000.0 - ms).abs() < 1e-3), "{quantiles:?}");
        assert!(quantiles.iter().any(|(share, _)| (share - 0.9999).abs() < 1e-6));
        assert_eq!(super::law(&[3.0; 5]), Service::Constant { ms: 3.0 });
    }

    #[test]
    fn samples_of_one_law_are_alike_and_others_are_not() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut sample = |count: usize, scale: f64| {
            let mut times: Vec<f64> = (0..count).map(|_| scale * (1.0 + random.random::<f64>())).collect();
            times.sort_by(f64::total_cmp);
            times
        };
        let (one, same, slower) = (sample(3000, 1.0), sample(500, 1.0), sample(3000, 1.2));
        assert!(are_alike(&one, &same) && !are_alike(&one, &slower) && !are_alike(&same, &slower));
        // Ties count once.
        assert!(distance(&[1.0, 1.0, 2.0], &[1.0, 2.0, 2.0]) - 1.0 / 3.0 < 1e-12);
        assert!((distance(&[1.0, 1.0], &[2.0]) - 1.0).abs() < 1e-12);
    }
}
