/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/rates.h"

#include <arpa/inet.h>
#include <glib.h>
#include <pthread.h>
#include <string.h>

enum { PREFIX_BYTES_V6 = 8, ADDRESS_BYTES_MAX = 64, SECOND_OF_MS = 1000 };

/* IPv4, or the first half of IPv6; the family keeps them apart. */
struct source {
  uint8_t family;
  uint8_t bytes[PREFIX_BYTES_V6];
};

/* Tokens are kept in thousandths, as so many come back each millisecond. */
struct bucket {
  int64_t tokens;
  int64_t filled_ms;
};

struct rates {
  pthread_mutex_t lock;
  int64_t per_second;
  GHashTable *buckets; /* struct source -> struct bucket */
  struct bucket shared;
  int64_t swept_ms;
};

static guint source_hash(gconstpointer source) {
  const uint8_t *bytes = source;
  guint hash = 5381;
  for (size_t i = 0; i < sizeof(struct source); i++)
    hash = hash * 33 + bytes[i];
  return hash;
}

static gboolean source_equal(gconstpointer a, gconstpointer b) {
  return memcmp(a, b, sizeof(struct source)) == 0;
}

/* False: it has no address, or none that we understand. */
static bool source_parse(const char *peer, struct source *out_source) {
  char text[ADDRESS_BYTES_MAX];
  struct in6_addr v6;
  bool is_v4 = g_str_has_prefix(peer, "ipv4:");
  const char *start = peer + strlen("ipv4:");
  const char *end = strrchr(peer, ':');
  *out_source = (struct source){.family = is_v4 ? AF_INET : AF_INET6};
  if (!is_v4 && !g_str_has_prefix(peer, "ipv6:"))
    return false;
  if (!is_v4 && g_str_has_prefix(start, "%5B")) { /* brackets, as a URI writes them */
    start += strlen("%5B");
    end = strstr(start, "%5D");
  } else if (!is_v4 && *start == '[') {
    end = strchr(++start, ']');
  }
  if (!end || end <= start || (size_t)(end - start) >= sizeof text)
    return false;
  memcpy(text, start, (size_t)(end - start));
  text[end - start] = '\0';
  text[strcspn(text, "%")] = '\0'; /* of a zone */
  if (is_v4)
    return inet_pton(AF_INET, text, out_source->bytes) == 1;
  if (inet_pton(AF_INET6, text, &v6) != 1)
    return false;
  memcpy(out_source->bytes, v6.s6_addr, PREFIX_BYTES_V6);
  return true;
}

static void refill(const struct rates *rates, struct bucket *bucket, int64_t now_ms) {
  int64_t passed_ms = MIN(now_ms - bucket->filled_ms, SECOND_OF_MS);
  bucket->tokens = MIN(bucket->tokens + passed_ms * rates->per_second, rates->per_second * SECOND_OF_MS);
  bucket->filled_ms = now_ms;
}

/* Forgets those who have been silent for a second: their buckets are full. At most once a second. */
static void sweep(struct rates *rates, int64_t now_ms) {
  GHashTableIter iterator;
  gpointer value;
  if (now_ms - rates->swept_ms < SECOND_OF_MS)
    return;
  rates->swept_ms = now_ms;
  g_hash_table_iter_init(&iterator, rates->buckets);
  while (g_hash_table_iter_next(&iterator, NULL, &value)) {
    if (now_ms - ((struct bucket *)value)->filled_ms >= SECOND_OF_MS)
      g_hash_table_iter_remove(&iterator);
  }
}

static struct bucket *find_bucket(struct rates *rates, const struct source *source, int64_t now_ms) {
  struct bucket *bucket = g_hash_table_lookup(rates->buckets, source);
  if (bucket)
    return bucket;
  if (g_hash_table_size(rates->buckets) >= PEERS_MAX)
    sweep(rates, now_ms);
  if (g_hash_table_size(rates->buckets) >= PEERS_MAX)
    return &rates->shared;
  bucket = g_new(struct bucket, 1);
  *bucket = (struct bucket){.tokens = rates->per_second * SECOND_OF_MS, .filled_ms = now_ms};
  g_hash_table_insert(rates->buckets, g_memdup2(source, sizeof *source), bucket);
  return bucket;
}

struct rates *rates_new(uint32_t per_second) {
  struct rates *rates = g_new0(struct rates, 1);
  pthread_mutex_init(&rates->lock, NULL);
  rates->per_second = per_second;
  rates->buckets = g_hash_table_new_full(source_hash, source_equal, g_free, g_free);
  return rates;
}

void rates_free(struct rates *rates) {
  if (!rates)
    return;
  g_hash_table_destroy(rates->buckets);
  pthread_mutex_destroy(&rates->lock);
  g_free(rates);
}

bool rates_take(struct rates *rates, const char *peer, int64_t now_ms, int64_t *out_wait_ms) {
  struct source source;
  if (!source_parse(peer, &source))
    return true;
  pthread_mutex_lock(&rates->lock);
  struct bucket *bucket = find_bucket(rates, &source, now_ms);
  refill(rates, bucket, now_ms);
  bool is_taken = bucket->tokens >= SECOND_OF_MS;
  if (is_taken)
    bucket->tokens -= SECOND_OF_MS;
  else
    *out_wait_ms = (SECOND_OF_MS - bucket->tokens) / rates->per_second + 1;
  pthread_mutex_unlock(&rates->lock);
  return is_taken;
}
