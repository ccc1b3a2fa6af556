//! Rows that are taken at random, with classes in proportion.

use proptest::prelude::*;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use parm::split::draw;

proptest! {
    #[test]
    fn each_row_is_on_one_side_and_each_class_has_its_share(
        classes in proptest::collection::vec(0_i64..5, 1..200), share in 0.0..1.0_f64, seed: u64
    ) {
        let rows = classes.len();
        let wanted = (rows as f64 * share) as usize;
        let mut order: Vec<usize> = (0..rows).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let [taken, rest] = draw(&order, |row| classes[row], wanted);
        prop_assert_eq!(taken.len(), wanted);
        prop_assert!(taken.is_sorted() && rest.is_sorted());
        let mut all = [taken.clone(), rest].concat();
        all.sort_unstable();
        prop_assert_eq!(all, (0..rows).collect::<Vec<_>>());
        for class in 0..5 {
            let count = |of: &mut dyn Iterator<Item = i64>| of.filter(|&found| found == class).count() as f64;
            let exact = count(&mut classes.iter().copied()) * wanted as f64 / rows as f64;
            let found = count(&mut taken.iter().map(|&row| classes[row]));
            prop_assert!((found - exact).abs() < 1.0, "class {}: {} of {}", class, found, exact);
        }
    }
}

#[test]
fn no_more_rows_are_taken_than_there_are() {
    assert_eq!(draw(&[2, 0, 1], |_| 0, 9), [vec![0_usize, 1, 2], Vec::new()]);
    assert_eq!(draw::<usize>(&[], |_| 0, 9), [Vec::new(), Vec::new()] as [Vec<usize>; 2]);
}
