// SPDX-License-Identifier: GPL-2.0
/* The anti-replay window, RFC 4303 3.4.3 and appendix A2. Under sa->lock. */
#include "simnic.h"

#define SIM_WINDOW 256		/* bits in the map, the largest window */

/* The 64-bit number that the low 32 bits of a packet stand for. */
u64 sim_replay_seq(const struct sim_sa *sa, u32 low)
{
	u32 window = sa->window ?: 64;
	u32 top_low = sa->seq, high = sa->seq >> 32;
	u32 bottom = top_low - window + 1;

	if (!sa->esn)
		return low;
	if (top_low >= window - 1)
		high += low < bottom;
	else if (low >= bottom)
		high--;
	return (u64)high << 32 | low;
}

bool sim_replay_old(const struct sim_sa *sa, u64 seq)
{
	if (!sa->window)
		return false;
	if (!seq)
		return true;
	if (seq > sa->seq)
		return false;
	return sa->seq - seq >= sa->window ||
	       test_bit(seq % SIM_WINDOW, sa->map);
}

void sim_replay_advance(struct sim_sa *sa, u64 seq)
{
	u64 i;

	if (seq > sa->seq && seq - sa->seq >= SIM_WINDOW)
		bitmap_zero(sa->map, SIM_WINDOW);
	else
		for (i = sa->seq + 1; i <= seq; i++)
			clear_bit(i % SIM_WINDOW, sa->map);
	sa->seq = max(sa->seq, seq);
	set_bit(seq % SIM_WINDOW, sa->map);
}
