// SPDX-License-Identifier: GPL-2.0
/*
 * The NIC's own event log: a ring of SIM_LOG_LEN entries, and beside it the
 * first entry of each kind, which nothing overwrites.
 */
#include <linux/errname.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include "simnic.h"

int sim_log_init(struct sim_log *log)
{
	spin_lock_init(&log->lock);
	log->ring = kvcalloc(SIM_LOG_LEN, sizeof(*log->ring), GFP_KERNEL);
	return log->ring ? 0 : -ENOMEM;
}

void sim_log_fini(struct sim_log *log)
{
	kvfree(log->ring);
	log->ring = NULL;
}

void sim_log(struct sim_pf *pf, enum sim_event kind, const char *fmt, ...)
{
	struct sim_log *log = &pf->log;
	struct sim_log_entry *e;
	va_list args;

	va_start(args, fmt);
	spin_lock_bh(&log->lock);
	e = &log->ring[log->seq % SIM_LOG_LEN];
	e->seq = ++log->seq;
	e->time = ktime_get();
	vscnprintf(e->text, sizeof(e->text), fmt, args);
	if (!log->first[kind].seq)
		log->first[kind] = *e;
	spin_unlock_bh(&log->lock);
	va_end(args);
}

void sim_log_refusal(struct sim_pf *pf, enum sim_event kind, const char *what,
		     int err, const char *why)
{
	if (sim_is_text(why))
		why += strlen(SIM_MSG(""));
	sim_log(pf, kind, "refused %s %s%s%s", what, errname(-err) ?: "?",
		why ? ": " : "", why ?: "");
}

static void sim_log_line(struct seq_file *s, const struct sim_log_entry *e)
{
	struct timespec64 t = ktime_to_timespec64(e->time);

	seq_printf(s, "%llu %lld.%09ld %s\n", e->seq, t.tv_sec, t.tv_nsec,
		   e->text);
}

/* The next kept entry after seq that the ring has lost, NULL if none. */
static struct sim_log_entry *sim_log_lost(struct sim_log *log, u64 seq)
{
	u64 oldest = log->seq < SIM_LOG_LEN ? 1 : log->seq - SIM_LOG_LEN + 1;
	struct sim_log_entry *best = NULL, *e;

	for (e = log->first; e < log->first + EV_MAX; e++)
		if (e->seq > seq && e->seq < oldest &&
		    (!best || e->seq < best->seq))
			best = e;
	return best;
}

/* Oldest first: kept entries that the ring has lost, then the ring. */
void sim_log_show(struct seq_file *s, struct sim_log *log)
{
	struct sim_log_entry *e;
	u64 seq = 0;

	spin_lock_bh(&log->lock);
	while ((e = sim_log_lost(log, seq))) {
		sim_log_line(s, e);
		seq = e->seq;
	}
	seq = log->seq < SIM_LOG_LEN ? 0 : log->seq - SIM_LOG_LEN;
	for (; seq < log->seq; seq++)
		sim_log_line(s, &log->ring[seq % SIM_LOG_LEN]);
	spin_unlock_bh(&log->lock);
}
