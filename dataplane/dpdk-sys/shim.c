#include <rte_errno.h>
#include <rte_mbuf.h>

#include "shim.h"

int culvert_errno(void)
{
	return rte_errno;
}

int culvert_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, count);
}
