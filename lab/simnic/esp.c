// SPDX-License-Identifier: GPL-2.0
/* ESP with AES-GCM (RFC 4303, RFC 4106), transport and tunnel mode. */
#include <crypto/aead.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/scatterlist.h>
#include <linux/unaligned.h>
#include <net/ip.h>
#include "simnic.h"

#define ESP_HEADER 16		/* SPI, sequence number, IV */
#define ESP_ICV 16

/* On the heap, since stacks may be vmapped; the cipher's context follows. */
struct sim_crypt {
	u8 aad[12];
	u8 iv[8];
	struct aead_request req CRYPTO_MINALIGN_ATTR;
};

/* RFC 4106 5: SPI and the sequence number, of 64 bits with ESN */
static unsigned int sim_aad(u8 *aad, const struct sim_sa *sa, u64 seq)
{
	memcpy(aad, &sa->spi, 4);
	if (!sa->esn) {
		put_unaligned_be32(seq, aad + 4);
		return 8;
	}
	put_unaligned_be64(seq, aad + 4);
	return 12;
}

/* iv: 8 bytes of IV, then len bytes of text, then room for the ICV */
static int sim_crypt(struct sim_sa *sa, u64 seq, u8 *iv, unsigned int len,
		     bool encrypt)
{
	struct scatterlist sg[2];
	struct sim_crypt *c;
	unsigned int aad;
	int err;

	c = kmalloc(sizeof(*c) + crypto_aead_reqsize(sa->aead), GFP_ATOMIC);
	if (!c)
		return -ENOMEM;
	aad = sim_aad(c->aad, sa, seq);
	memcpy(c->iv, iv, 8);
	sg_init_table(sg, 2);
	sg_set_buf(&sg[0], c->aad, aad);
	sg_set_buf(&sg[1], iv, 8 + len + ESP_ICV);
	aead_request_set_tfm(&c->req, sa->aead);
	aead_request_set_callback(&c->req, 0, NULL, NULL);
	aead_request_set_ad(&c->req, aad + 8);
	aead_request_set_crypt(&c->req, sg, sg, encrypt ? len : len + ESP_ICV,
			       c->iv);
	err = encrypt ? crypto_aead_encrypt(&c->req) :
			crypto_aead_decrypt(&c->req);
	kfree(c);
	return err;
}

static unsigned int sim_ip_header(u16 family)
{
	return family == AF_INET ? sizeof(struct iphdr) :
				   sizeof(struct ipv6hdr);
}

/* Protocol, length and checksum of an IP header before len bytes in all. */
static void sim_fix_ip(u8 *ip, u16 family, u8 proto, unsigned int len)
{
	struct iphdr *h4 = (void *)ip;
	struct ipv6hdr *h6 = (void *)ip;

	if (family == AF_INET) {
		h4->tot_len = htons(len);
		h4->protocol = proto;
		ip_send_check(h4);
		return;
	}
	h6->payload_len = htons(len - sizeof(*h6));
	h6->nexthdr = proto;
}

static void sim_set_ethertype(u8 *frame, unsigned int l3, bool ipv4)
{
	*(__be16 *)(frame + l3 - 2) = htons(ipv4 ? ETH_P_IP : ETH_P_IPV6);
}

static void sim_outer_ip(const struct sim_sa *sa, u8 *ip, u8 tos, int ttl)
{
	if (sa->family == AF_INET)
		*(struct iphdr *)ip = (struct iphdr){
			.version = 4, .ihl = 5, .tos = tos, .ttl = ttl,
			.frag_off = htons(IP_DF),
			.saddr = sa->saddr.a4, .daddr = sa->daddr.a4,
		};
	else
		*(struct ipv6hdr *)ip = (struct ipv6hdr){
			.version = 6, .hop_limit = ttl,
			.saddr = sa->saddr.in6, .daddr = sa->daddr.in6,
		};
}

/*
 * Tunnel mode: the device writes the Ethernet and the outer IP header. inner
 * is the IP header of the packet. Here nobody may be asked for a neighbour,
 * for the answer might come through this very device.
 */
static int sim_outer(struct sim_sa *sa, u8 *frame, const struct sim_tuple *t,
		     const u8 *inner)
{
	const struct iphdr *ip = (void *)inner;
	xfrm_address_t src = sa->saddr;
	u8 dmac[ETH_ALEN];
	int ttl = 64, err;

	err = sim_resolve(sa->pf, sa->family, &src, &sa->daddr, dmac, &ttl,
			  false);
	if (err)
		return err;
	ether_addr_copy(frame, dmac);
	sim_set_ethertype(frame, t->l3, sa->family == AF_INET);
	sim_outer_ip(sa, frame + t->l3, t->family == AF_INET ? ip->tos : 0,
		     ttl);
	return 0;
}

/* Where the parts of one packet are. */
struct sim_layout {
	bool tunnel;
	u16 family;		/* of the IP header before ESP */
	unsigned int keep;	/* bytes that stay before what is inserted */
	unsigned int grow;	/* bytes inserted after them */
	unsigned int esp;	/* offset of the ESP header after that */
	unsigned int text;	/* bytes to encrypt, without the trailer */
	unsigned int pad;
};

static void sim_lay_out(struct sim_layout *l, const struct sim_sa *sa,
			const struct sim_tuple *t)
{
	l->tunnel = sa->mode == XFRM_MODE_TUNNEL;
	l->family = l->tunnel ? sa->family : t->family;
	l->keep = l->tunnel ? t->l3 : t->l4;
	l->grow = ESP_HEADER + (l->tunnel ? sim_ip_header(sa->family) : 0);
	l->esp = l->keep + l->grow - ESP_HEADER;
	l->text = t->end - l->keep;
	l->pad = ALIGN(l->text + 2, 4) - l->text - 2;
}

static u8 sim_next_header(const struct sim_layout *l,
			  const struct sim_tuple *t)
{
	if (!l->tunnel)
		return t->proto;
	return t->family == AF_INET ? IPPROTO_IPIP : IPPROTO_IPV6;
}

static int sim_make_room(struct sk_buff *skb, unsigned int head,
			 unsigned int tail)
{
	int more_head = max_t(int, 0, head - skb_headroom(skb));
	int more_tail = max_t(int, 0, tail - skb_tailroom(skb));

	if (!more_head && !more_tail && !skb_cloned(skb))
		return 0;
	return pskb_expand_head(skb, SKB_DATA_ALIGN(more_head), more_tail,
				GFP_ATOMIC);
}

/* Puts the trailer behind, and a gap where the headers will be. */
static int sim_esp_open_up(struct sim_pf *pf, struct sk_buff *skb,
			   const struct sim_layout *l,
			   const struct sim_tuple *t)
{
	unsigned int tail = l->pad + 2 + ESP_ICV, i;
	u8 *p;

	skb_trim(skb, t->end);
	if (sim_make_room(skb, l->grow + LL_RESERVED_SPACE(pf->lower),
			  tail + pf->lower->needed_tailroom))
		return -ENOMEM;
	p = skb_put(skb, tail);
	for (i = 0; i < l->pad; i++)
		*p++ = i + 1;
	*p++ = l->pad;
	*p = sim_next_header(l, t);
	p = skb_push(skb, l->grow);
	memmove(p, p + l->grow, l->keep);
	return 0;
}

/* The next sequence number, 0 when there is none. */
static u64 sim_next_seq(struct sim_sa *sa)
{
	u64 seq;

	spin_lock_bh(&sa->lock);
	seq = ++sa->seq;
	spin_unlock_bh(&sa->lock);
	return sa->esn || seq <= U32_MAX ? seq : 0;
}

static int sim_esp_seal(struct sim_sa *sa, struct sk_buff *skb,
			const struct sim_layout *l, const struct sim_tuple *t)
{
	u8 *esp = skb->data + l->esp;
	u64 seq;

	if (l->tunnel && sim_outer(sa, skb->data, t, esp + ESP_HEADER))
		return -EHOSTUNREACH;
	seq = sim_next_seq(sa);
	if (!seq)
		return -EOVERFLOW;
	memcpy(esp, &sa->spi, 4);
	put_unaligned_be32(seq, esp + 4);
	put_unaligned_be64(seq, esp + 8);	/* an IV never used twice */
	sim_fix_ip(skb->data + t->l3, l->family, IPPROTO_ESP,
		   skb->len - t->l3);
	return sim_crypt(sa, seq, esp + 8, l->text + l->pad + 2, true);
}

/* Consumes skb. NULL: nothing to send, and counted. */
struct sk_buff *sim_esp_encrypt(struct sim_sa *sa, struct sk_buff *skb,
				const struct sim_tuple *t)
{
	struct sim_pf *pf = sa->pf;
	struct sim_layout l;

	sim_lay_out(&l, sa, t);
	if (sim_esp_open_up(pf, skb, &l, t) || sim_esp_seal(sa, skb, &l, t)) {
		sim_count(pf, CNT_TX_ERROR);
		kfree_skb(skb);
		return NULL;
	}
	skb_reset_mac_header(skb);
	skb_set_network_header(skb, t->l3);
	skb->protocol = *(__be16 *)(skb->data + ETH_HLEN - 2);
	skb->ip_summed = CHECKSUM_NONE;
	skb->encapsulation = 0;
	atomic64_inc(&sa->pkts);
	atomic64_add(l.text, &sa->bytes);
	sim_count_frame(pf, CNT_TX_ESP, skb->len);
	return skb;
}

/* False: replayed. Called before (commit false) and after authentication. */
static bool sim_replay_ok(struct sim_sa *sa, u64 seq, bool commit)
{
	bool old;

	spin_lock_bh(&sa->lock);
	old = sim_replay_old(sa, seq);
	if (!old && commit)
		sim_replay_advance(sa, seq);
	spin_unlock_bh(&sa->lock);
	if (!old)
		return true;
	atomic64_inc(&sa->replayed);
	sim_count(sa->pf, CNT_RX_REPLAY);
	return false;
}

static u64 sim_packet_seq(struct sim_sa *sa, const u8 *esp)
{
	u64 seq;

	spin_lock_bh(&sa->lock);
	seq = sim_replay_seq(sa, get_unaligned_be32(esp + 4));
	spin_unlock_bh(&sa->lock);
	return seq;
}

static bool sim_esp_open(struct sim_sa *sa, u8 *esp, unsigned int len)
{
	u64 seq = sim_packet_seq(sa, esp);

	if (!sim_replay_ok(sa, seq, false))
		return false;
	if (len & 3 || sim_crypt(sa, seq, esp + 8, len, false)) {
		atomic64_inc(&sa->auth_fail);
		sim_count(sa->pf, CNT_RX_AUTH_FAIL);
		return false;
	}
	return sim_replay_ok(sa, seq, true);
}

/* Takes header and trailer away; len: decrypted bytes with the trailer. */
static bool sim_esp_strip(struct sim_sa *sa, struct sk_buff *skb,
			  const struct sim_tuple *t, unsigned int len)
{
	bool tunnel = sa->mode == XFRM_MODE_TUNNEL;
	unsigned int keep = tunnel ? t->l3 : t->l4;
	unsigned int skip = t->l4 + ESP_HEADER - keep;
	u8 *end = skb->data + t->l4 + ESP_HEADER + len;
	u8 next = end[-1], pad = end[-2];

	if (pad + 2 > len ||
	    (tunnel && next != IPPROTO_IPIP && next != IPPROTO_IPV6)) {
		sim_count(sa->pf, CNT_RX_TRAILER);
		return false;
	}
	skb_trim(skb, t->l4 + ESP_HEADER + len - pad - 2);
	memmove(skb->data + skip, skb->data, keep);
	skb_pull(skb, skip);
	if (tunnel)
		sim_set_ethertype(skb->data, t->l3, next == IPPROTO_IPIP);
	else
		sim_fix_ip(skb->data + t->l3, t->family, next,
			   skb->len - t->l3);
	atomic64_inc(&sa->pkts);
	atomic64_add(len - pad - 2, &sa->bytes);
	return true;
}

/* Consumes skb, an ESP packet for sa. NULL: dropped, and counted. */
struct sk_buff *sim_esp_decrypt(struct sim_sa *sa, struct sk_buff *skb,
				const struct sim_tuple *t)
{
	unsigned int len = t->end - t->l4 - ESP_HEADER - ESP_ICV;

	skb_trim(skb, t->end);
	if (skb_ensure_writable(skb, skb->len)) {
		sim_count(sa->pf, CNT_RX_DROP);
		goto drop;
	}
	if (!sim_esp_open(sa, skb->data + t->l4, len) ||
	    !sim_esp_strip(sa, skb, t, len))
		goto drop;
	skb->ip_summed = CHECKSUM_NONE;
	sim_count_frame(sa->pf, CNT_RX_ESP, skb->len);
	return skb;
drop:
	kfree_skb(skb);
	return NULL;
}
