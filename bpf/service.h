/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* Services: which backend a client gets. */
#pragma once

struct endpoint {
	struct addr addr;
	__u16 port_be;
	__u16 pad;
};

static __always_inline const struct service_slot *service_at(const struct service_key *key, __u32 now)
{
	struct service_value *value = bpf_map_lookup_elem(&sl_service, key);
	const struct service_slot *service = slot_at(value, now);

	return service && service->flags & SL_SERVICE_PRESENT ? service : 0;
}

/* What binds this caller, or all, at the service address. */
static __always_inline const struct route_slot *route_at(const struct service_key *service, __u64 view,
							 __u32 now)
{
	struct route_key key = { .view = view, .service = *service };
	struct route_value *value = bpf_map_lookup_elem(&sl_route, &key);
	const struct route_slot *route = slot_at(value, now);

	if (route && route->action)
		return route;
	key.view = 0;
	value = bpf_map_lookup_elem(&sl_route, &key);
	route = slot_at(value, now);
	return route && route->action ? route : 0;
}

/* A number that is the client's own, whatever it calls: FNV-1a over its address. */
static __always_inline __u32 hash_of(const struct addr *client)
{
	__u32 hash = 2166136261u;
	int i;

	for (i = 0; i < 4; i++)
		hash = (hash ^ client->w[i]) * 16777619u;
	return hash ^ hash >> 16;
}

static __always_inline bool read_backend(__u32 index, struct endpoint *to)
{
	struct backend *backend = bpf_map_lookup_elem(&sl_maglev, &index);

	if (!backend)
		return false;
	to->addr = backend->addr;
	to->port_be = backend->port_be;
	to->pad = 0;
	return true;
}

struct search {
	struct addr addr;
	__u32 offset;
	__u16 port_be;
	__u16 found;
};

static long compare_backend(__u32 index, struct search *search)
{
	__u32 at = search->offset + index;
	struct backend *backend = bpf_map_lookup_elem(&sl_maglev, &at);

	search->found = backend && backend->port_be == search->port_be && same(&backend->addr, &search->addr);
	return search->found;
}

/* Session affinity: the client's last backend while it is one, and was used recently enough. */
static __noinline bool read_affinity(const struct affinity_key *key, const struct service_slot *service,
				     struct endpoint *to)
{
	struct affinity_value *last = bpf_map_lookup_elem(&sl_affinity, key);
	struct search search;
	__u64 now_ns;

	if (!last)
		return false;
	now_ns = bpf_ktime_get_coarse_ns();
	if (now_ns - last->used_ns > service->affinity * 1000000000ULL)
		return false;
	if (last->generation != service->generation) {
		search = (struct search){ last->backend, service->offset, last->port_be, 0 };
		bpf_loop(service->size, compare_backend, &search, 0);
		if (!search.found)
			return false;
		last->generation = service->generation;
	}
	last->used_ns = now_ns;
	to->addr = last->backend;
	to->port_be = last->port_be;
	to->pad = 0;
	return true;
}

static __noinline int write_affinity(const struct affinity_key *key, const struct endpoint *to, __u32 generation)
{
	struct affinity_value value = {
		.backend = to->addr,
		.port_be = to->port_be,
		.generation = generation,
		.used_ns = bpf_ktime_get_coarse_ns(),
	};

	return bpf_map_update_elem(&sl_affinity, key, &value, BPF_ANY);
}

/* False when there is no backend. `hash` chooses among them. */
static __always_inline bool pick_backend(const struct service_key *key, const struct service_slot *service,
					 const struct addr *client, __u32 hash, struct endpoint *to)
{
	struct affinity_key affinity = { .client = *client, .service = *key };

	if (!service->size)
		return false;
	if (service->affinity && read_affinity(&affinity, service, to))
		return true;
	if (!read_backend(service->offset + hash % service->size, to))
		return false;
	if (service->affinity)
		write_affinity(&affinity, to, service->generation);
	return true;
}
