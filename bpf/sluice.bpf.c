/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* The data path, one translation unit: nouns first, then the hooks. README.md says what runs when. */
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_core_read.h>

#include "layout.h"
#include "kernel.h"
#include "maps.h"
#include "address.h"
#include "generation.h"
#include "verdict.h"
#include "event.h"
#include "audit.h"
#include "judge.h"
#include "flow.h"
#include "socket.h"
#include "packet.h"
#include "fragment.h"
#include "neighbour.h"
#include "service.h"

#include "connect.h"
#include "traffic.h"
#include "sockops.h"
#include "inbound.h"
#include "tc.h"
#include "sweep.h"
#include "bulk.h"

char sl_license[] SEC("license") = "Dual BSD/GPL";
