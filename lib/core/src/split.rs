//! Takes some of the rows of a set, at random, and with classes in proportion.

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Takes `wanted` of rows that are in random order; each class gives its share, to within one row. Returns the rows that
/// were taken and the rest, both in ascending order. All rows are taken if there are not as many.
pub fn draw<R: Copy + Ord>(order: &[R], class: impl Fn(R) -> i64, wanted: usize) -> [Vec<R>; 2] {
    let rows = order.len();
    let wanted = wanted.min(rows);
    let mut by_class: BTreeMap<i64, Vec<R>> = BTreeMap::new();
    for &row in order {
        by_class.entry(class(row)).or_default().push(row);
    }
    // The share of each class is rounded down; the remaining rows go to the classes with the largest
    // remainders.
    let share = |members: &Vec<R>| members.len() as u128 * wanted as u128;
    let whole = |members: &Vec<R>| (share(members) / rows as u128) as usize;
    let mut left = wanted - by_class.values().map(whole).sum::<usize>();
    let mut losers: Vec<(u128, i64)> =
        by_class.iter().map(|(&class, of)| (share(of) % rows as u128, class)).collect();
    losers.sort_by_key(|&(lost, class)| (Reverse(lost), class));
    let (mut taken, mut rest) = (Vec::with_capacity(wanted), Vec::with_capacity(rows - wanted));
    for (_, class) in losers {
        let members = &by_class[&class];
        let more = usize::from(left > 0);
        left -= more;
        let (first, others) = members.split_at(whole(members) + more);
        taken.extend(first);
        rest.extend(others);
    }
    taken.sort_unstable();
    rest.sort_unstable();
    [taken, rest]
}
