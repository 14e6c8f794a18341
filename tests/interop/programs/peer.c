/* A TLS peer of Mbed TLS 2.28: `serve` echoes, `connect` copies its standard input and output. */
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_cache.h>
#include <mbedtls/ssl_ticket.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static mbedtls_ssl_config config;
static const char *host = "127.0.0.1", *port;

static void must(int result, const char *what) {
    if (result < 0) {
        fprintf(stderr, "%s: -0x%04x\n", what, -result);
        exit(1);
    }
}

static int write_all(mbedtls_ssl_context *ssl, const unsigned char *data, size_t size) {
    size_t sent = 0;
    while (sent < size) {
        int n = mbedtls_ssl_write(ssl, data + sent, size - sent);
        if (n < 0) return n;
        sent += n;
    }
    return 0;
}

static int begin(mbedtls_ssl_context *ssl, mbedtls_net_context *net) {
    mbedtls_ssl_init(ssl);
    must(mbedtls_ssl_setup(ssl, &config), "setup");
    mbedtls_ssl_set_bio(ssl, net, mbedtls_net_send, mbedtls_net_recv, NULL);
    return 0;
}

static void serve(void) {
    mbedtls_net_context listening;
    mbedtls_net_init(&listening);
    must(mbedtls_net_bind(&listening, host, port, MBEDTLS_NET_PROTO_TCP), "bind");
    for (;;) {
        mbedtls_net_context net;
        mbedtls_ssl_context ssl;
        unsigned char data[16384];
        int n;
        mbedtls_net_init(&net);
        must(mbedtls_net_accept(&listening, &net, NULL, 0, NULL), "accept");
        begin(&ssl, &net);
        if (mbedtls_ssl_handshake(&ssl) == 0) {
            while ((n = mbedtls_ssl_read(&ssl, data, sizeof data)) > 0)
                if (write_all(&ssl, data, n) < 0) break;
            mbedtls_ssl_close_notify(&ssl);
        }
        mbedtls_ssl_free(&ssl);
        mbedtls_net_free(&net);
    }
}

static void dial(mbedtls_ssl_context *ssl, mbedtls_net_context *net, mbedtls_ssl_session *session) {
    mbedtls_net_init(net);
    must(mbedtls_net_connect(net, host, port, MBEDTLS_NET_PROTO_TCP), "connect");
    begin(ssl, net);
    must(mbedtls_ssl_set_hostname(ssl, "localhost"), "hostname");
    if (session != NULL) must(mbedtls_ssl_set_session(ssl, session), "session");
    must(mbedtls_ssl_handshake(ssl), "handshake");
}

static void copy(mbedtls_ssl_context *ssl, mbedtls_net_context *net) {
    unsigned char data[16384];
    struct pollfd both[2] = {{.fd = 0, .events = POLLIN}, {.fd = net->fd, .events = POLLIN}};
    for (;;) {
        must(poll(both, 2, -1), "poll");
        if (both[0].revents) {
            int n = read(0, data, sizeof data);
            if (n <= 0) both[0].fd = -1;
            else must(write_all(ssl, data, n), "write");
        }
        if (both[1].revents) do {
            int n = mbedtls_ssl_read(ssl, data, sizeof data);
            if (n == 0 || n == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY) return;
            must(n, "read");
            if (write(1, data, n) != n) exit(1);
        } while (mbedtls_ssl_check_pending(ssl));
    }
}

static mbedtls_ecp_group_id group_of(const char *name) {
    if (!strcmp(name, "X25519")) return MBEDTLS_ECP_DP_CURVE25519;
    return strcmp(name, "P-256") ? MBEDTLS_ECP_DP_SECP384R1 : MBEDTLS_ECP_DP_SECP256R1;
}

int main(int argc, char **argv) {
    static mbedtls_entropy_context entropy;
    static mbedtls_ctr_drbg_context random;
    static mbedtls_x509_crt trusted, own;
    static mbedtls_pk_context key;
    static mbedtls_ssl_ticket_context tickets;
    static mbedtls_ecp_group_id groups[3];
    const char *ca = NULL, *cert = NULL, *key_file = NULL;
    int verify = 0, resume = 0, at;
    for (at = 1; at < argc && !strncmp(argv[at], "--", 2); at++) {
        const char *name = argv[at] + 2;
        if (!strcmp(name, "verify")) verify = 1;
        else if (!strcmp(name, "resume")) resume = 1;
        else {
            const char *value = argv[++at];
            if (!strcmp(name, "ca")) ca = value;
            else if (!strcmp(name, "cert")) cert = value;
            else if (!strcmp(name, "key")) key_file = value;
            else if (!strcmp(name, "group")) groups[0] = group_of(value);
        }
    }
    int serves = !strcmp(argv[at], "serve");
    port = strchr(argv[at + 1], ':') + 1;

    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&random);
    must(mbedtls_ctr_drbg_seed(&random, mbedtls_entropy_func, &entropy, NULL, 0), "seed");
    mbedtls_ssl_config_init(&config);
    must(mbedtls_ssl_config_defaults(&config, serves ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT,
                                     MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT),
         "defaults");
    mbedtls_ssl_conf_rng(&config, mbedtls_ctr_drbg_random, &random);
    mbedtls_ssl_conf_min_version(&config, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    /* The client's are those of certificates, too. */
    if (groups[0] && !serves) groups[1] = MBEDTLS_ECP_DP_SECP256R1;
    if (groups[0]) mbedtls_ssl_conf_curves(&config, groups);
    mbedtls_x509_crt_init(&trusted);
    must(mbedtls_x509_crt_parse_file(&trusted, ca), "ca");
    mbedtls_ssl_conf_ca_chain(&config, &trusted, NULL);
    if (cert != NULL) {
        mbedtls_x509_crt_init(&own);
        mbedtls_pk_init(&key);
        must(mbedtls_x509_crt_parse_file(&own, cert), "cert");
        must(mbedtls_pk_parse_keyfile(&key, key_file, NULL), "key");
        must(mbedtls_ssl_conf_own_cert(&config, &own, &key), "own");
    }
    if (serves) {
        mbedtls_ssl_conf_authmode(&config, verify ? MBEDTLS_SSL_VERIFY_REQUIRED : MBEDTLS_SSL_VERIFY_NONE);
        mbedtls_ssl_ticket_init(&tickets);
        must(mbedtls_ssl_ticket_setup(&tickets, mbedtls_ctr_drbg_random, &random,
                                      MBEDTLS_CIPHER_AES_256_GCM, 86400), "tickets");
        mbedtls_ssl_conf_session_tickets_cb(&config, mbedtls_ssl_ticket_write,
                                            mbedtls_ssl_ticket_parse, &tickets);
        serve();
    }
    mbedtls_net_context net;
    mbedtls_ssl_context ssl;
    mbedtls_ssl_session session;
    mbedtls_ssl_session_init(&session);
    dial(&ssl, &net, NULL);
    if (resume) {
        must(mbedtls_ssl_get_session(&ssl, &session), "get session");
        mbedtls_ssl_close_notify(&ssl);
        mbedtls_net_free(&net);
        dial(&ssl, &net, &session);
    }
    copy(&ssl, &net);
    return 0;
}
