// Deny-list keeps the sessions that Keycloak has ended, and refuses their tokens to an Envoy that asks (ext_authz).
//
// Keycloak reports an ended session to /backchannel-logout on the public port, by TLS (OpenID Connect Back-Channel
// Logout 1.0). Envoy asks on the other port, at any path, with the request's Authorization header.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

const event = "http://schemas.openid.net/event/backchannel-logout"

// List holds ended sessions until no token of theirs can be valid any more.
type List struct {
	verifier *oidc.IDTokenVerifier
	keep     time.Duration
	signOut  string
	mu       sync.Mutex
	ended    map[string]time.Time // by sid: when it may be forgotten
}

// Report takes a logout token. Section 2.6 of the specification says what must hold.
func (l *List) Report(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	r.Body = http.MaxBytesReader(w, r.Body, 1<<16)
	sid, err := l.session(r.Context(), r.PostFormValue("logout_token"))
	if r.Method != http.MethodPost || err != nil {
		log.Printf("refused a logout token: %v", err)
		http.Error(w, `{"error":"invalid_request"}`, http.StatusBadRequest)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for one, until := range l.ended {
		if now.After(until) {
			delete(l.ended, one)
		}
	}
	l.ended[sid] = now.Add(l.keep)
	log.Printf("a session has ended; %d in the list", len(l.ended))
}

func (l *List) session(ctx context.Context, token string) (string, error) {
	verified, err := l.verifier.Verify(ctx, token)
	if err != nil {
		return "", err
	}
	var claims struct {
		Sid    string                     `json:"sid"`
		Nonce  *string                    `json:"nonce"`
		Events map[string]json.RawMessage `json:"events"`
	}
	if err := verified.Claims(&claims); err != nil {
		return "", err
	}
	if _, found := claims.Events[event]; !found || claims.Sid == "" || claims.Nonce != nil {
		return "", errors.New("no logout token of a session")
	}
	return claims.Sid, nil
}

// Check refuses the tokens of ended sessions, and sends a browser to where its cookies end. It verifies nothing: a
// forged sid can only lead to a refusal, and the filter behind this one verifies the token.
func (l *List) Check(w http.ResponseWriter, r *http.Request) {
	switch {
	case !l.has(sid(r.Header.Get("Authorization"))):
	case strings.Contains(r.Header.Get("Accept"), "text/html"):
		w.Header().Set("Location", l.signOut)
		w.WriteHeader(http.StatusFound)
	default:
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token", error_description="the session has ended"`)
		http.Error(w, "the session has ended", http.StatusUnauthorized)
	}
}

func (l *List) has(sid string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	until, found := l.ended[sid]
	return found && time.Now().Before(until)
}

func sid(header string) string {
	parts := strings.Split(header, ".")
	if len(parts) != 3 {
		return ""
	}
	var claims struct {
		Sid string `json:"sid"`
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return ""
	}
	return claims.Sid
}

func main() {
	issuer := flag.String("issuer", "", "the realm's issuer")
	jwks := flag.String("jwks", "", "where the realm's keys are")
	audience := flag.String("audience", "", "the client whose sessions Keycloak reports")
	authority := flag.String("authority", "", "file: who signs the certificate of the keys' server")
	certificate := flag.String("certificate", "", "folder: tls.crt and tls.key, read again for each connection")
	signOut := flag.String("sign-out", "/", "where a browser whose session has ended goes")
	keep := flag.Duration("keep", time.Hour, "longer than any access token lives")
	flag.Parse()

	pem, err := os.ReadFile(*authority)
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	ctx := oidc.ClientContext(context.Background(), &http.Client{Transport: transport, Timeout: 5 * time.Second})
	config := &oidc.Config{ClientID: *audience}
	verifier := oidc.NewVerifier(*issuer, oidc.NewRemoteKeySet(ctx, *jwks), config)
	list := &List{verifier: verifier, keep: *keep, signOut: *signOut, ended: map[string]time.Time{}}

	public := http.NewServeMux()
	public.HandleFunc("/backchannel-logout", list.Report)
	load := func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(*certificate+"/tls.crt", *certificate+"/tls.key")
		return &pair, err
	}
	reports := &http.Server{Addr: ":8443", Handler: public, TLSConfig: &tls.Config{GetCertificate: load}, ReadTimeout: 10 * time.Second}
	go func() { log.Fatal(reports.ListenAndServeTLS("", "")) }()
	checks := &http.Server{Addr: ":8080", Handler: http.HandlerFunc(list.Check), ReadTimeout: 10 * time.Second}
	log.Fatal(checks.ListenAndServe())
}
