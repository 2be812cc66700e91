//! What is free where: the nodes that take groups, in the orders in which placement looks for one.
//!
//! Each order is a persistent search tree whose branches know the most that is free below them, so the first node of an
//! order that has room, or that there is none, is found by going down once, past all that are full. It is no record: it
//! follows [`Node`] and [`Ledger`] as they are written.

use std::cmp::Ordering;
use std::sync::Arc;

use imbl::OrdMap;

use crate::node::{Ledger, Node};

/// The order in which nodes are looked at. Ties go to the fewer groups, then to the lower id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The lowest id first, whatever its groups.
    Id,
    /// The fewest groups first.
    Groups,
    /// The least free CPU first.
    FreeCpu,
    /// The least free memory first.
    FreeMemory,
}

/// What a node must have free to be looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Need<'a> {
    /// CPU units.
    pub cpu_units: u32,
    /// Memory.
    pub memory_mib: u32,
    /// `X86_64` or `ARM64`; `None` = any.
    pub cpu_architecture: Option<&'a str>,
}

/// The connected nodes and what is free on each.
#[derive(Debug, Clone, Default)]
pub struct Room {
    zones: OrdMap<String, u32>,
    by_id: Tree,
    by_groups: Tree,
    by_free_cpu: Tree,
    by_free_memory: Tree,
}

/// A node with room.
#[derive(Debug, Clone, PartialEq)]
struct Place {
    id: Arc<str>,
    zone: String,
    groups: u32,
    /// Below 0 where more was given away than there is now.
    free_cpu_units: i64,
    free_memory_mib: i64,
    most: Most,
}

/// The most that one group can get: of a node, or of all nodes below a branch.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Most {
    cpu_units: u32,
    memory_mib: u32,
    x86_64: bool,
    arm64: bool,
}

impl Most {
    fn fits(&self, need: &Need) -> bool {
        let architecture = match need.cpu_architecture {
            None => true,
            Some("ARM64") => self.arm64,
            Some(_) => self.x86_64,
        };
        architecture && need.cpu_units <= self.cpu_units && need.memory_mib <= self.memory_mib
    }

    fn or(self, other: &Most) -> Most {
        Most {
            cpu_units: self.cpu_units.max(other.cpu_units),
            memory_mib: self.memory_mib.max(other.memory_mib),
            x86_64: self.x86_64 || other.x86_64,
            arm64: self.arm64 || other.arm64,
        }
    }
}

impl Place {
    fn of(node: &Node, ledger: &Ledger) -> Place {
        let free = |capacity: u32, used: u32| i64::from(capacity) - i64::from(used);
        let free_cpu_units = free(node.capacity.cpu_units, ledger.used.cpu_units);
        let free_memory_mib = free(node.capacity.memory_mib, ledger.used.memory_mib);
        let most = |free: i64| u32::try_from(free.max(0)).unwrap_or(u32::MAX);
        let arm64 = node.cpu_architecture == "ARM64";
        Place {
            id: node.id.as_str().into(),
            zone: node.availability_zone.clone(),
            groups: ledger.groups,
            free_cpu_units,
            free_memory_mib,
            most: Most {
                cpu_units: most(free_cpu_units).min(node.cpu_physical_units),
                memory_mib: most(free_memory_mib),
                x86_64: !arm64,
                arm64,
            },
        }
    }

    fn rank(&self, order: Order) -> i64 {
        match order {
            Order::Id | Order::Groups => 0,
            Order::FreeCpu => self.free_cpu_units,
            Order::FreeMemory => self.free_memory_mib,
        }
    }

    fn cmp(&self, other: &Place, order: Order) -> Ordering {
        let key = |place: &Place| match order {
            Order::Id => (0, 0),
            _ => (place.rank(order), place.groups),
        };
        key(self).cmp(&key(other)).then_with(|| self.id.cmp(&other.id))
    }
}

impl Room {
    /// Follows a node: it or its ledger was written or deleted.
    pub(crate) fn follow(&mut self, id: &str, node: Option<&Node>, ledger: Option<&Ledger>) {
        let nothing = Ledger::default();
        let after =
            node.filter(|node| node.is_connected()).map(|node| Place::of(node, ledger.unwrap_or(&nothing)));
        let before = self.place(id).cloned();
        if before.as_deref() == after.as_ref() {
            return;
        }
        let after = after.map(Arc::new);
        // By its id a node stays where it is.
        let moving = |order: Order| order != Order::Id || before.is_none() || after.is_none();
        if let (Some(_), Some(after)) = (&before, &after) {
            replace(&mut self.by_id.root, after);
        }
        if let Some(before) = &before {
            for (order, tree) in self.trees().into_iter().filter(|(order, _)| moving(*order)) {
                tree.remove(before, order);
            }
            if let Some(count) = self.zones.get_mut(&before.zone) {
                *count -= 1;
                if *count == 0 {
                    self.zones.remove(&before.zone);
                }
            }
        }
        if let Some(after) = &after {
            for (order, tree) in self.trees().into_iter().filter(|(order, _)| moving(*order)) {
                tree.insert(after.clone(), order);
            }
            *self.zones.entry(after.zone.clone()).or_default() += 1;
        }
    }

    fn trees(&mut self) -> [(Order, &mut Tree); 4] {
        [
            (Order::Id, &mut self.by_id),
            (Order::Groups, &mut self.by_groups),
            (Order::FreeCpu, &mut self.by_free_cpu),
            (Order::FreeMemory, &mut self.by_free_memory),
        ]
    }

    fn tree(&self, order: Order) -> &Tree {
        match order {
            Order::Id => &self.by_id,
            Order::Groups => &self.by_groups,
            Order::FreeCpu => &self.by_free_cpu,
            Order::FreeMemory => &self.by_free_memory,
        }
    }

    /// The first node of an order that has the room and that `accepts` accepts.
    pub fn first<'a>(
        &'a self,
        order: Order,
        need: Need,
        mut accepts: impl FnMut(&'a str) -> bool,
    ) -> Option<&'a str> {
        first(&self.tree(order).root, &need, &mut accepts)
    }

    /// What a node's place in an order goes by: its free CPU or memory; 0 in the other orders.
    pub fn rank(&self, order: Order, id: &str) -> Option<i64> {
        self.place(id).map(|place| place.rank(order))
    }

    fn place(&self, id: &str) -> Option<&Arc<Place>> {
        let mut link = &self.by_id.root;
        while let Some(branch) = link {
            link = match id.cmp(&branch.place.id) {
                Ordering::Less => &branch.left,
                Ordering::Equal => return Some(&branch.place),
                Ordering::Greater => &branch.right,
            };
        }
        None
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.by_id.root.as_ref().map_or(0, |branch| branch.count)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.root.is_none()
    }

    /// Any of them, by a number below [`Room::len`].
    pub fn nth(&self, n: usize) -> Option<&str> {
        nth(&self.by_groups.root, n)
    }

    /// The availability zones that have any.
    pub fn zones(&self) -> impl Iterator<Item = &str> {
        self.zones.keys().map(String::as_str)
    }
}

// === the tree ===

/// A treap: a search tree by an order and a heap by a number that an id always gives, so its depth is that of a random
/// tree whatever the order of writes.
#[derive(Debug, Clone, Default)]
struct Tree {
    root: Link,
}

type Link = Option<Arc<Branch>>;

#[derive(Debug, Clone)]
struct Branch {
    place: Arc<Place>,
    chance: u64,
    left: Link,
    right: Link,
    count: usize,
    most: Most,
}

impl Branch {
    /// Counts again what is below.
    fn refresh(&mut self) {
        let below = || self.left.iter().chain(&self.right);
        let count = 1 + below().map(|branch| branch.count).sum::<usize>();
        let most = below().fold(self.place.most, |most, branch| most.or(&branch.most));
        (self.count, self.most) = (count, most);
    }
}

/// FNV-1a, then the last steps of SplitMix64: close ids are far apart.
fn chance(id: &str) -> u64 {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let z = id.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Tree {
    fn insert(&mut self, place: Arc<Place>, order: Order) {
        let chance = chance(&place.id);
        insert(&mut self.root, place, chance, order);
    }

    fn remove(&mut self, place: &Place, order: Order) {
        remove(&mut self.root, place, order);
    }
}

/// Puts a place where one of the same id is, in a tree by ids.
fn replace(link: &mut Link, place: &Arc<Place>) {
    let Some(shared) = link else { return };
    let branch = Arc::make_mut(shared);
    match place.id.cmp(&branch.place.id) {
        Ordering::Less => replace(&mut branch.left, place),
        Ordering::Equal => branch.place = place.clone(),
        Ordering::Greater => replace(&mut branch.right, place),
    }
    branch.refresh();
}

fn insert(link: &mut Link, place: Arc<Place>, chance: u64, order: Order) {
    if let Some(branch) = link
        && branch.chance >= chance
    {
        let branch = Arc::make_mut(branch);
        let side = match place.cmp(&branch.place, order) {
            Ordering::Less => &mut branch.left,
            _ => &mut branch.right,
        };
        insert(side, place, chance, order);
        branch.refresh();
        return;
    }
    let (left, right) = split(link.take(), &place, order);
    let most = place.most;
    let mut branch = Branch { place, chance, left, right, count: 1, most };
    branch.refresh();
    *link = Some(Arc::new(branch));
}

/// What comes before a place, and what comes after it.
fn split(link: Link, at: &Place, order: Order) -> (Link, Link) {
    let Some(mut shared) = link else { return (None, None) };
    let branch = Arc::make_mut(&mut shared);
    if branch.place.cmp(at, order) == Ordering::Less {
        let (before, after) = split(branch.right.take(), at, order);
        branch.right = before;
        branch.refresh();
        (Some(shared), after)
    } else {
        let (before, after) = split(branch.left.take(), at, order);
        branch.left = after;
        branch.refresh();
        (before, Some(shared))
    }
}

fn remove(link: &mut Link, place: &Place, order: Order) {
    let Some(shared) = link else { return };
    let branch = Arc::make_mut(shared);
    match place.cmp(&branch.place, order) {
        Ordering::Less => remove(&mut branch.left, place, order),
        Ordering::Greater => remove(&mut branch.right, place, order),
        Ordering::Equal => {
            *link = join(branch.left.take(), branch.right.take());
            return;
        }
    }
    branch.refresh();
}

/// Joins two trees, all of the first before all of the second.
fn join(first: Link, second: Link) -> Link {
    let (mut first, mut second) = match (first, second) {
        (Some(first), Some(second)) => (first, second),
        (first, second) => return first.or(second),
    };
    if first.chance >= second.chance {
        let branch = Arc::make_mut(&mut first);
        branch.right = join(branch.right.take(), Some(second));
        branch.refresh();
        Some(first)
    } else {
        let branch = Arc::make_mut(&mut second);
        branch.left = join(Some(first), branch.left.take());
        branch.refresh();
        Some(second)
    }
}

fn first<'a>(link: &'a Link, need: &Need, accepts: &mut impl FnMut(&'a str) -> bool) -> Option<&'a str> {
    let branch = link.as_ref().filter(|branch| branch.most.fits(need))?;
    if let Some(found) = first(&branch.left, need, accepts) {
        return Some(found);
    }
    if branch.place.most.fits(need) && accepts(&branch.place.id) {
        return Some(&branch.place.id);
    }
    first(&branch.right, need, accepts)
}

fn nth(link: &Link, n: usize) -> Option<&str> {
    let branch = link.as_ref()?;
    let before = branch.left.as_ref().map_or(0, |left| left.count);
    match n.cmp(&before) {
        Ordering::Less => nth(&branch.left, n),
        Ordering::Equal => Some(&branch.place.id),
        Ordering::Greater => nth(&branch.right, n - before - 1),
    }
}
