//! Packet filters: the messages of nftables that an engine needs, in batches that are carried out whole or not at all.
//!
//! Rules are small programs on 32-bit registers; see nft(8) and the kernel's `nf_tables.h`.

use super::netlink::{Attributes, Netlink, Part, Refused, Request, attributes};
use std::io;

const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8;
/// The first of the registers.
pub const R0: u32 = libc::NFT_REG32_00 as u32;
const VERDICT: u32 = libc::NFT_REG_VERDICT as u32;
const INET: u8 = libc::NFPROTO_INET as u8;

/// Kinds of keys and values, by their numbers in nft(8), which shows them by these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// An IPv4 address.
    Ipv4 = 7,
    /// An IPv6 address.
    Ipv6 = 8,
    /// A protocol over IP.
    Protocol = 12,
    /// A port.
    Port = 13,
    /// The name of an interface.
    Interface = 41,
}

impl Kind {
    fn length(self) -> u32 {
        match self {
            Kind::Ipv4 | Kind::Protocol | Kind::Port => 4,
            Kind::Ipv6 | Kind::Interface => 16,
        }
    }
}

/// A set, or a map if it has values.
#[derive(Clone, Copy, Debug)]
pub struct Set {
    /// Its name.
    pub name: &'static str,
    /// What its keys are made of.
    pub key: &'static [Kind],
    /// What its values are made of.
    pub value: &'static [Kind],
}

/// A chain; a base chain if it has a hook.
#[derive(Clone, Copy, Debug)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// `filter` or `nat`, the hook's number and the priority there.
    pub hook: Option<(&'static str, i32, i32)>,
}

/// One element of a set or map: its key and its value.
pub type Element = (Vec<u8>, Vec<u8>);

/// Changes to one table of the `inet` family.
#[derive(Debug)]
pub struct Batch {
    request: Request,
    table: String,
    sets: u32,
}

fn header(family: u8, resource: u16) -> [u8; 4] {
    let id = resource.to_be_bytes();
    [family, libc::NFNETLINK_V0 as u8, id[0], id[1]]
}

fn kinds(list: &[Kind]) -> (u32, u32) {
    list.iter().fold((0, 0), |(number, length), kind| (number << 6 | *kind as u32, length + kind.length()))
}

impl Batch {
    /// No changes yet, to the table of this name.
    pub fn new(table: &str) -> Batch {
        let mut request = Request::default();
        let kind = (libc::NFNL_MSG_BATCH_BEGIN as u16, 0);
        request.message("begin", kind, &header(0, libc::NFNL_SUBSYS_NFTABLES as u16), |_| {});
        Batch { request, table: table.to_owned(), sets: 0 }
    }

    fn message(&mut self, what: &'static str, (kind, flags): (i32, i32), fill: impl FnOnce(&mut Attributes<'_>)) {
        let table = self.table.clone();
        self.request.message(what, (SUBSYSTEM | kind as u16, flags), &header(INET, 0), |a| {
            // The table's name comes first in all of them.
            fill(a.text(1, &table));
        });
    }

    /// Makes the table, which is fine if it is there.
    pub fn add_table(&mut self) {
        self.message("make the table", (libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE), |a| {
            a.big(2, 0);
        });
    }

    /// Removes the table with all that is in it.
    pub fn remove_table(&mut self) {
        self.message("remove the table", (libc::NFT_MSG_DELTABLE, 0), |_| {});
    }

    /// Makes a set or map.
    pub fn add_set(&mut self, set: &Set) {
        let ((key, key_length), (value, value_length)) = (kinds(set.key), kinds(set.value));
        self.sets += 1;
        let id = self.sets;
        self.message("make a set", (libc::NFT_MSG_NEWSET, libc::NLM_F_CREATE), |a| {
            a.text(2, set.name).big(3, if set.value.is_empty() { 0 } else { libc::NFT_SET_MAP as u32 });
            a.big(4, key).big(5, key_length);
            if !set.value.is_empty() {
                a.big(6, value).big(7, value_length);
            }
            a.big(10, id);
            if set.key == [Kind::Interface] {
                // For those who list it: names are not numbers.
                const KEY_IN_ORDER_OF_HOST: [u8; 6] = [0, 4, 1, 0, 0, 0];
                a.put(13, &KEY_IN_ORDER_OF_HOST);
            }
        });
    }

    /// Makes a chain; what reaches the end of a base chain is let through.
    pub fn add_chain(&mut self, chain: &Chain) {
        self.message("make a chain", (libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE), |a| {
            a.text(3, chain.name);
            if let Some((kind, number, priority)) = chain.hook {
                a.nest(4, |hook| {
                    hook.big(1, number as u32).big(2, priority as u32);
                });
                a.big(5, libc::NF_ACCEPT as u32).text(7, kind);
            }
        });
    }

    /// Adds a rule to the end of a chain.
    pub fn add_rule(&mut self, chain: &str, rule: impl FnOnce(&mut Rule<'_, '_>)) {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_APPEND;
        self.message("add a rule", (libc::NFT_MSG_NEWRULE, flags), |a| {
            a.text(2, chain).nest(4, |expressions| rule(&mut Rule(expressions)));
        });
    }

    /// Adds elements to a set or map; one that is there with another value is an error.
    pub fn add_elements(&mut self, set: &Set, elements: &[Element]) {
        let kind = (libc::NFT_MSG_NEWSETELEM, libc::NLM_F_CREATE);
        self.elements("add to a set", kind, set.name, elements, true);
    }

    /// Removes elements from a set or map; one that is not there is an error.
    pub fn remove_elements(&mut self, set: &Set, elements: &[Element]) {
        self.elements("remove from a set", (libc::NFT_MSG_DELSETELEM, 0), set.name, elements, false);
    }

    fn elements(&mut self, what: &'static str, kind: (i32, i32), set: &str, elements: &[Element], values: bool) {
        // Attributes hold 64 kB; a range of ports may have more.
        for part in elements.chunks(500) {
            self.message(what, kind, |a| {
                a.text(2, set).nest(3, |list| {
                    for (key, value) in part {
                        list.nest(1, |element| {
                            element.nest(1, |k| {
                                k.put(1, key);
                            });
                            if values && !value.is_empty() {
                                element.nest(2, |v| {
                                    v.put(1, value);
                                });
                            }
                        });
                    }
                });
            });
        }
    }

    /// Carries out the changes, all or none.
    ///
    /// # Errors
    /// The first change that the kernel refused.
    pub fn carry_out(mut self, netlink: &mut Netlink) -> Result<(), Refused> {
        let kind = (libc::NFNL_MSG_BATCH_END as u16, 0);
        self.request.message("carry out the changes", kind, &header(0, libc::NFNL_SUBSYS_NFTABLES as u16), |_| {});
        netlink.carry_out(self.request)
    }
}

/// A rule in the making: expressions, one after the other; the first that does not match ends it.
#[derive(Debug)]
pub struct Rule<'a, 'b>(&'a mut Attributes<'b>);

impl Rule<'_, '_> {
    fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        self.0.nest(1, |element| {
            element.text(1, name).nest(2, fill);
        });
        self
    }

    /// Loads a fact about the packet (`NFT_META_*`).
    pub fn meta(&mut self, key: i32, register: u32) -> &mut Self {
        self.expression("meta", |a| {
            a.big(1, register).big(2, key as u32);
        })
    }

    /// Loads a fact about the connection (`NFT_CT_*`).
    pub fn connection(&mut self, key: i32, register: u32) -> &mut Self {
        self.expression("ct", |a| {
            a.big(1, register).big(2, key as u32);
        })
    }

    /// Loads bytes of the packet: from its `NFT_PAYLOAD_*_HEADER`, offset, length.
    pub fn payload(&mut self, base: i32, offset: u32, length: u32, register: u32) -> &mut Self {
        self.expression("payload", |a| {
            a.big(1, register).big(2, base as u32).big(3, offset).big(4, length);
        })
    }

    /// Loads a value.
    pub fn load(&mut self, value: &[u8], register: u32) -> &mut Self {
        self.expression("immediate", |a| {
            a.big(1, register).nest(2, |data| {
                data.put(1, value);
            });
        })
    }

    /// Replaces an address in the network header, and corrects the checksums above that cover it.
    pub fn set_address(&mut self, offset: u32, length: u32, register: u32) -> &mut Self {
        const CORRECT_TRANSPORT: u32 = 1;
        self.expression("payload", |a| {
            a.big(2, libc::NFT_PAYLOAD_NETWORK_HEADER as u32).big(3, offset).big(4, length);
            a.big(5, register).big(6, 0).big(7, 0).big(8, CORRECT_TRANSPORT);
        })
    }

    /// Loads the type of the destination address.
    pub fn destination_type(&mut self, register: u32) -> &mut Self {
        const RESULT_TYPE: u32 = 3;
        const OF_DESTINATION: u32 = 2;
        self.expression("fib", |a| {
            a.big(1, register).big(2, RESULT_TYPE).big(3, OF_DESTINATION);
        })
    }

    /// Keeps only these bits of a register.
    pub fn mask(&mut self, register: u32, mask: [u8; 4]) -> &mut Self {
        self.expression("bitwise", |a| {
            a.big(1, register).big(2, register).big(3, 4);
            a.nest(4, |d| {
                d.put(1, &mask);
            })
            .nest(5, |d| {
                d.put(1, &[0; 4]);
            });
        })
    }

    /// Goes on only if what begins in a register is this.
    pub fn is(&mut self, register: u32, value: &[u8]) -> &mut Self {
        self.compare(libc::NFT_CMP_EQ, register, value)
    }

    /// Goes on only if what begins in a register is not this.
    pub fn is_not(&mut self, register: u32, value: &[u8]) -> &mut Self {
        self.compare(libc::NFT_CMP_NEQ, register, value)
    }

    fn compare(&mut self, operator: i32, register: u32, value: &[u8]) -> &mut Self {
        self.expression("cmp", |a| {
            a.big(1, register).big(2, operator as u32).nest(3, |d| {
                d.put(1, value);
            });
        })
    }

    /// Goes on only if what begins in a register is in the set.
    pub fn within(&mut self, register: u32, set: &Set) -> &mut Self {
        self.expression("lookup", |a| {
            a.text(1, set.name).big(2, register);
        })
    }

    /// Goes on only if it is not.
    pub fn without(&mut self, register: u32, set: &Set) -> &mut Self {
        self.expression("lookup", |a| {
            a.text(1, set.name).big(2, register).big(5, 1);
        })
    }

    /// Replaces a key that begins in a register by its value in the map, or ends the rule.
    pub fn map(&mut self, register: u32, map: &Set) -> &mut Self {
        self.expression("lookup", |a| {
            a.text(1, map.name).big(2, register).big(3, register);
        })
    }

    /// Sends the connection to the address and port in these registers.
    pub fn redirect_to(&mut self, family: i32, address: u32, port: u32) -> &mut Self {
        const TO_DESTINATION: u32 = 1;
        self.expression("nat", |a| {
            a.big(1, TO_DESTINATION).big(2, family as u32).big(3, address).big(5, port);
        })
    }

    /// Gives the connection the address of the interface that it leaves by.
    pub fn masquerade(&mut self) -> &mut Self {
        self.expression("masq", |_| {})
    }

    /// Ends the packet.
    pub fn drop(&mut self) -> &mut Self {
        self.verdict(libc::NF_DROP, None)
    }

    /// Ends the chain: the packet may pass.
    pub fn accept(&mut self) -> &mut Self {
        self.verdict(libc::NF_ACCEPT, None)
    }

    /// Goes through another chain and comes back.
    pub fn jump(&mut self, chain: &str) -> &mut Self {
        self.verdict(libc::NFT_JUMP, Some(chain))
    }

    fn verdict(&mut self, code: i32, chain: Option<&str>) -> &mut Self {
        self.expression("immediate", |a| {
            a.big(1, VERDICT).nest(2, |data| {
                data.nest(2, |verdict| {
                    verdict.big(1, code as u32);
                    if let Some(chain) = chain {
                        verdict.text(2, chain);
                    }
                });
            });
        })
    }
}

/// A connection to the packet filters of the caller's network namespace.
pub fn open() -> io::Result<Netlink> {
    Netlink::open(Part::Netfilter)
}

/// Whether there is an `inet` table of this name.
pub fn has_table(netlink: &mut Netlink, name: &str) -> Result<bool, Refused> {
    let mut request = Request::default();
    let kind = (SUBSYSTEM | libc::NFT_MSG_GETTABLE as u16, libc::NLM_F_ACK);
    request.message("look for the table", kind, &header(INET, 0), |a| {
        a.text(1, name);
    });
    match netlink.list(request) {
        Ok(_) => Ok(true),
        Err(refused) if refused.errno == libc::ENOENT => Ok(false),
        Err(refused) => Err(refused),
    }
}

/// A base chain of any table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseChain {
    /// `NFPROTO_*`.
    pub family: i32,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// The number of its hook.
    pub hook: u32,
    /// What reaches its end is dropped.
    pub drops: bool,
}

/// All base chains.
pub fn base_chains(netlink: &mut Netlink) -> Result<Vec<BaseChain>, Refused> {
    let mut request = Request::default();
    let kind = (SUBSYSTEM | libc::NFT_MSG_GETCHAIN as u16, libc::NLM_F_DUMP);
    request.message("list the chains of the packet filters", kind, &header(0, 0), |_| {});
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned();
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_be_bytes);
    let chain = |(_, body): (u16, Vec<u8>)| {
        let mut chain = BaseChain { family: i32::from(*body.first()?), ..BaseChain::default() };
        let mut hooked = false;
        for (kind, value) in attributes(&body, 4) {
            match kind {
                1 => chain.table = text(value),
                3 => chain.name = text(value),
                4 => {
                    hooked = true;
                    chain.hook = attributes(value, 0).find(|(k, _)| *k == 1).map_or(0, |(_, v)| number(v));
                }
                5 => chain.drops = number(value) == libc::NF_DROP as u32,
                _ => {}
            }
        }
        hooked.then_some(chain)
    };
    Ok(netlink.list(request)?.into_iter().filter_map(chain).collect())
}

/// Whether a rule of a table has this text in it, such as the name of an interface.
pub fn mentions(netlink: &mut Netlink, family: i32, table: &str, text: &str) -> Result<bool, Refused> {
    let mut request = Request::default();
    let kind = (SUBSYSTEM | libc::NFT_MSG_GETRULE as u16, libc::NLM_F_DUMP);
    request.message("list the rules of the packet filters", kind, &header(family as u8, 0), |a| {
        a.text(1, table);
    });
    let rules = netlink.list(request)?;
    Ok(rules.iter().any(|(_, body)| body.windows(text.len()).any(|w| w == text.as_bytes())))
}
