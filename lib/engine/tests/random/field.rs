//! Linear models over the integers modulo a prime: what is rebuilt is exactly right or wrong.

const PRIME: u64 = (1 << 31) - 1;

pub(crate) fn times(a: u64, b: u64) -> u64 {
    a * b % PRIME
}

fn power(base: u64, exponent: u64) -> u64 {
    (0..exponent).fold(1, |power, _| times(power, base))
}

fn inverse(of: u64) -> u64 {
    let (mut base, mut exponent, mut result) = (of, PRIME - 2, 1);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = times(result, base);
        }
        base = times(base, base);
        exponent >>= 1;
    }
    result
}

/// The query of a row: two rows have different ones.
pub(crate) fn query(row: u64) -> u64 {
    1 + times(row % PRIME, 48_271)
}

/// The weight of a slot in what a worker gets. Of a systematic code the workers from k have the
/// weights of `sum`; of another one each worker has a point of its own.
pub(crate) fn weight(k: usize, systematic: bool, worker: usize, slot: usize) -> u64 {
    match worker.checked_sub(k) {
        None if systematic => u64::from(worker == slot),
        Some(parity) if systematic => power(slot as u64 + 1, parity as u64),
        _ => power(worker as u64 + 1, slot as u64),
    }
}

/// Solves for one of k unknowns: equations are k weights, and what they sum to.
pub(crate) fn solve(mut equations: Vec<Vec<u64>>, k: usize, unknown: usize) -> Option<u64> {
    let mut done = 0;
    // The unknown that is wanted comes last, so that its row holds nothing else.
    let columns: Vec<usize> = (0..k).filter(|&column| column != unknown).chain([unknown]).collect();
    for &column in &columns {
        let Some(pivot) = (done..equations.len()).find(|&row| equations[row][column] != 0) else {
            if column == unknown {
                return None;
            }
            continue;
        };
        equations.swap(done, pivot);
        let scale = inverse(equations[done][column]);
        for value in &mut equations[done] {
            *value = times(*value, scale);
        }
        let pivot_row = equations[done].clone();
        for equation in equations.iter_mut().skip(done + 1) {
            let factor = equation[column];
            for (value, &pivot_value) in equation.iter_mut().zip(&pivot_row) {
                *value = (*value + PRIME - times(factor, pivot_value)) % PRIME;
            }
        }
        if column == unknown {
            return equations[done].last().copied();
        }
        done += 1;
    }
    None
}
