package main

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

type claims map[string]any

func signed(t *testing.T, key *rsa.PrivateKey, changed claims) string {
	content := claims{"iss": "https://sso/realms/r", "aud": "browser", "sid": "s1", "exp": time.Now().Add(time.Minute).Unix()}
	content["events"] = claims{event: claims{}}
	for name, value := range changed {
		content[name] = value
	}
	payload, _ := json.Marshal(content)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	made, _ := signer.Sign(payload)
	text, _ := made.CompactSerialize()
	return text
}

func newList(key *rsa.PrivateKey, keep time.Duration) *List {
	keys := &oidc.StaticKeySet{PublicKeys: []crypto.PublicKey{key.Public()}}
	verifier := oidc.NewVerifier("https://sso/realms/r", keys, &oidc.Config{ClientID: "browser"})
	return &List{verifier: verifier, keep: keep, signOut: "/out", ended: map[string]time.Time{}}
}

func report(list *List, method, token string) int {
	body := url.Values{"logout_token": {token}}.Encode()
	request := httptest.NewRequest(method, "/backchannel-logout", strings.NewReader(body))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer := httptest.NewRecorder()
	list.Report(answer, request)
	return answer.Code
}

func check(list *List, token, accept string) *httptest.ResponseRecorder {
	request := httptest.NewRequest("GET", "/any", nil)
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Accept", accept)
	answer := httptest.NewRecorder()
	list.Check(answer, request)
	return answer
}

func TestOnlyALogoutTokenOfKeycloakForThisClientEndsASession(t *testing.T) {
	key, _ := rsa.GenerateKey(rand.Reader, 2048)
	other, _ := rsa.GenerateKey(rand.Reader, 2048)
	refused := map[string]string{
		"none":              "",
		"another key":       signed(t, other, nil),
		"another client":    signed(t, key, claims{"aud": "istio"}),
		"another issuer":    signed(t, key, claims{"iss": "https://sso/realms/other"}),
		"expired":           signed(t, key, claims{"exp": time.Now().Add(-time.Minute).Unix()}),
		"an ID token":       signed(t, key, claims{"events": nil}),
		"another event":     signed(t, key, claims{"events": claims{"x": claims{}}}),
		"with a nonce":      signed(t, key, claims{"nonce": "n"}),
		"without a session": signed(t, key, claims{"sid": ""}),
	}
	for name, token := range refused {
		list := newList(key, time.Hour)
		if got := report(list, "POST", token); got != http.StatusBadRequest || len(list.ended) != 0 {
			t.Errorf("%s: expected 400 and an empty list, got %d and %d sessions", name, got, len(list.ended))
		}
	}
	list := newList(key, time.Hour)
	if got := report(list, "GET", signed(t, key, nil)); got != http.StatusBadRequest {
		t.Errorf("GET: expected 400, got %d", got)
	}
	if got := report(list, "POST", signed(t, key, nil)); got != http.StatusOK || len(list.ended) != 1 {
		t.Errorf("a logout token: expected 200 and one session, got %d and %d", got, len(list.ended))
	}
}

func TestTokensOfEndedSessionsAreRefusedAndBrowsersSentToTheSignOut(t *testing.T) {
	key, _ := rsa.GenerateKey(rand.Reader, 2048)
	list := newList(key, time.Hour)
	report(list, "POST", signed(t, key, nil))
	ended, other := signed(t, key, nil), signed(t, key, claims{"sid": "s2"})
	if got := check(list, ended, "*/*"); got.Code != http.StatusUnauthorized || got.Header().Get("WWW-Authenticate") == "" {
		t.Errorf("a program: expected 401 with WWW-Authenticate, got %d", got.Code)
	}
	if got := check(list, ended, "text/html"); got.Code != http.StatusFound || got.Header().Get("Location") != "/out" {
		t.Errorf("a browser: expected 302 to /out, got %d", got.Code)
	}
	for _, token := range []string{other, "", "a.b.c", "a.e30.c", "x"} {
		if got := check(list, token, "text/html"); got.Code != http.StatusOK {
			t.Errorf("%q: expected 200, got %d", token, got.Code)
		}
	}
}

func TestASessionIsForgottenWhenNoTokenOfItCanBeValid(t *testing.T) {
	key, _ := rsa.GenerateKey(rand.Reader, 2048)
	list := newList(key, -time.Second)
	report(list, "POST", signed(t, key, nil))
	if got := check(list, signed(t, key, nil), "*/*"); got.Code != http.StatusOK {
		t.Errorf("expected 200, got %d", got.Code)
	}
	report(list, "POST", signed(t, key, claims{"sid": "s2"}))
	if len(list.ended) != 1 {
		t.Errorf("expected one session, got %d", len(list.ended))
	}
}
