//! Pages of the list: which packages, and whether there are more.

use crate::packages::{Call, Package, Packages, ServiceError};

/// A page of the list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// How many packages are before it.
    pub offset: u64,
    /// Those on it; empty only where there are none at all.
    pub packages: Vec<Package>,
    /// Where the page before it begins.
    pub previous: Option<u64>,
    /// Where the next page begins.
    pub next: Option<u64>,
}

/// Loads the page at `offset`, or, where that is past the end, the last one that has packages.
///
/// # Errors
/// When the package API fails.
pub async fn load<P: Packages>(
    packages: &P,
    call: &Call,
    offset: u64,
    size: u64,
) -> Result<Page, ServiceError> {
    let page = at(packages, call, offset, size).await?;
    if !page.packages.is_empty() || offset == 0 {
        return Ok(page);
    }
    last(packages, call, offset, size).await
}

/// One package more than is shown is asked for: it tells whether there is a next page.
async fn at<P: Packages>(packages: &P, call: &Call, offset: u64, size: u64) -> Result<Page, ServiceError> {
    let mut found = packages.list(call, offset, size + 1).await?;
    let more = found.len() as u64 > size;
    found.truncate(usize::try_from(size).unwrap_or(usize::MAX));
    let previous = (offset > 0).then(|| offset.saturating_sub(size));
    let next = more.then(|| offset.saturating_add(size));
    Ok(Page { offset, packages: found, previous, next })
}

/// The last page before `empty`, an offset at which there is nothing. Usually that is the page before; else steps are
/// doubled until there is something, and halved again: the API does not say how many packages there are.
async fn last<P: Packages>(packages: &P, call: &Call, empty: u64, size: u64) -> Result<Page, ServiceError> {
    let (mut empty, mut step) = (empty, size);
    let mut page = loop {
        let offset = empty.saturating_sub(step);
        let page = at(packages, call, offset, size).await?;
        if !page.packages.is_empty() || offset == 0 {
            break page;
        }
        (empty, step) = (offset, step.saturating_mul(2));
    };
    while page.next.is_some() {
        let pages_between = (empty - page.offset) / size;
        let middle = page.offset + (pages_between / 2).max(1) * size;
        let candidate = at(packages, call, middle, size).await?;
        if candidate.packages.is_empty() { empty = middle } else { page = candidate }
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fakes::{FakePackages, call};

    fn load_of(count: u64, offset: u64, size: u64) -> (Page, usize) {
        let packages = FakePackages::with(count);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let page = runtime.block_on(load(&packages, &call(), offset, size)).expect("a page");
        (page, packages.calls().len())
    }

    fn shown(page: &Page) -> Vec<u64> {
        page.packages.iter().map(|package| package.id).collect()
    }

    #[test]
    fn a_first_page_that_is_not_full_leads_nowhere() {
        let (page, _) = load_of(3, 0, 5);
        assert_eq!((shown(&page), page.previous, page.next), (vec![1, 2, 3], None, None));
    }

    #[test]
    fn a_full_last_page_does_not_lead_to_an_empty_one() {
        let (page, _) = load_of(10, 5, 5);
        assert_eq!((shown(&page), page.previous, page.next), (vec![6, 7, 8, 9, 10], Some(0), None));
    }

    #[test]
    fn a_page_in_the_middle_leads_both_ways() {
        let (page, _) = load_of(12, 5, 5);
        assert_eq!((page.previous, page.next), (Some(0), Some(10)));
    }

    #[test]
    fn past_the_end_is_the_last_page_with_packages() {
        let (page, calls) = load_of(7, 10, 5);
        assert_eq!((page.offset, shown(&page), page.next), (5, vec![6, 7], None));
        assert_eq!(calls, 2, "usually one step back is enough");
        let (page, _) = load_of(0, 10, 5);
        assert_eq!((page.offset, shown(&page), page.previous), (0, vec![], None));
    }

    proptest! {
        /// Whatever a button says and however many packages are left, the page has some, or there are none.
        #[test]
        fn every_button_leads_to_packages(count in 0u64..200, offset in prop_oneof![0u64..300, any::<u64>()], size in 1u64..36) {
            let (page, calls) = load_of(count, offset, size);
            prop_assert_eq!(page.packages.is_empty(), count == 0);
            prop_assert!(calls < 140, "{} calls", calls);
            if offset >= count && count > 0 {
                prop_assert_eq!(page.packages.last().map(|package| package.id), Some(count));
                prop_assert!(page.next.is_none());
            }
        }
    }
}
