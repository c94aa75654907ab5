package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"proot-distro/internal/report"
)

// Auth says where credentials come from. They are looked up only when a registry asks.
type Auth struct {
	// UserPass is "user:password", the value of PD_DOCKER_AUTH; when set nothing else counts. Else they come from
	// the usual places: $DOCKER_CONFIG, ~/.docker, Podman's auth.json, and the credential helpers named there.
	UserPass string
}

var errNoColon = errors.New("PD_DOCKER_AUTH must have the form user:password, but it has no colon")

func (a Auth) check() error {
	if a.UserPass != "" && !strings.Contains(a.UserPass, ":") {
		return errNoColon
	}
	return nil
}

// lookup returns nil when there are no credentials for the registry.
func (a Auth) lookup(ctx context.Context, registry string) (*authn.AuthConfig, error) {
	if user, pass, ok := strings.Cut(a.UserPass, ":"); ok {
		return &authn.AuthConfig{Username: user, Password: pass}, nil
	}
	target, err := name.NewRegistry(registry)
	if err != nil {
		return nil, nil // a name that no config can hold
	}
	found, err := authn.Resolve(ctx, authn.DefaultKeychain, target)
	if err != nil || found == authn.Anonymous {
		return nil, err
	}
	return authn.Authorization(ctx, found)
}

// authorizer adds Authorization to requests for one registry, and to no other host: a
// redirect to a CDN goes out without it. It answers Basic and Bearer challenges, and
// since a challenge is also what an expired token brings, tokens renew themselves.
//
// It stands in the place of go-containerregistry's transport because that one refuses
// token servers on private addresses, turns to plain http on its own for some names,
// and loses Retry-After.
type authorizer struct {
	inner    http.RoundTripper
	registry string // for people and config files
	host     string // host[:port] of the registry's URL
	plain    bool   // the registry speaks plain http
	scope    string // "repository:library/ubuntu:pull"
	pushing  bool   // refused credentials are final: nobody pushes anonymously with them
	auth     Auth
	report   report.Reporter

	mu      sync.Mutex
	looked  bool
	creds   *authn.AuthConfig // nil: anonymous
	refused bool
	told    bool
	sources []string // scopes of repositories to mount blobs from, as long as they do no harm
	header  string   // current value of Authorization
}

// credentials reports whether the user's were sent, and whether they were refused.
func (a *authorizer) credentials() (sent, refused bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.creds != nil || a.refused, a.refused
}

func (a *authorizer) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host != a.host {
		return a.inner.RoundTrip(req)
	}
	a.mu.Lock()
	header := a.header
	a.mu.Unlock()
	for fresh := false; ; {
		resp, err := a.send(req, header)
		if err != nil || resp.StatusCode != http.StatusUnauthorized {
			return resp, err
		}
		if strings.HasPrefix(header, "Basic ") {
			a.mu.Lock()
			a.refused = true // and without them it was refused already
			a.mu.Unlock()
		}
		if fresh || req.Body != nil && req.GetBody == nil { // no better answer; cannot be sent twice
			return resp, nil
		}
		next, isNew, err := a.answer(req.Context(), parseChallenges(resp.Header.Values("WWW-Authenticate")), header)
		if err != nil {
			resp.Body.Close()
			return nil, err
		}
		if next == "" || next == header {
			return resp, nil
		}
		drain(resp)
		header, fresh = next, isNew
	}
}

func (a *authorizer) send(req *http.Request, header string) (*http.Response, error) {
	req = req.Clone(req.Context())
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		req.Body = body
	}
	req.Header.Del("Authorization")
	if header != "" {
		req.Header.Set("Authorization", header)
	}
	return a.inner.RoundTrip(req)
}

// answer returns the Authorization that meets one of the challenges, or "" when there is
// none to give. stale is what was just refused; one request renews it for all, and the others get
// what is not fresh: it may have expired by now, too.
func (a *authorizer) answer(ctx context.Context, challenges []challenge, stale string) (header string, fresh bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.header != stale {
		return a.header, false, nil
	}
	a.findCredentials(ctx)
	for _, c := range challenges {
		if c.scheme == "bearer" {
			token, err := a.bearer(ctx, c)
			if err != nil {
				return "", false, err
			}
			a.header = "Bearer " + token
			return a.header, true, nil
		}
	}
	for _, c := range challenges {
		if c.scheme != "basic" || stale != "" || a.creds == nil || a.creds.Username == "" {
			continue
		}
		a.tell()
		a.header = basicAuth(a.creds)
		return a.header, true, nil
	}
	return "", false, nil
}

func basicAuth(c *authn.AuthConfig) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password))
}

func (a *authorizer) findCredentials(ctx context.Context) {
	if a.looked {
		return
	}
	a.looked = true
	creds, err := a.auth.lookup(ctx, a.registry)
	if err != nil {
		a.report.Warnf("credentials for %s could not be read (%v); trying anonymously", a.registry, err)
	}
	a.creds = creds
}

// tell is the line by which users see whether their credentials are picked up.
func (a *authorizer) tell() {
	if a.told {
		return
	}
	a.told = true
	if a.creds != nil {
		a.report.Infof("Authenticating with %s (user credentials)", a.registry)
	} else {
		a.report.Infof("Authenticating with %s", a.registry)
	}
}

// refuse drops credentials that the registry does not accept.
func (a *authorizer) refuse() {
	a.report.Warnf("the credentials given for %s were refused; trying anonymously", a.registry)
	a.creds, a.refused = nil, true
}

// bearer fetches a token, with credentials if there are any.
func (a *authorizer) bearer(ctx context.Context, c challenge) (string, error) {
	if a.creds != nil && a.creds.RegistryToken != "" {
		if a.header != "Bearer "+a.creds.RegistryToken {
			return a.creds.RegistryToken, nil
		}
		a.refuse()
	}
	realm, err := a.realm(c)
	if err != nil {
		return "", err
	}
	a.tell()
	token, err := a.fetchToken(ctx, realm, c)
	if a.sources != nil && isRefusal(err) {
		a.sources = nil
		token, err = a.fetchToken(ctx, realm, c)
	}
	if a.creds == nil || !isRefusal(err) {
		return token, err
	}
	if a.pushing {
		a.refused = true
		return "", err
	}
	a.refuse()
	return a.fetchToken(ctx, realm, c)
}

// isRefusal reports a token server that does not like what it was asked for.
func isRefusal(err error) bool {
	status := new(statusError)
	return errors.As(err, &status) && (status.code == http.StatusUnauthorized ||
		status.code == http.StatusForbidden || status.code == http.StatusBadRequest)
}

// realm is the token server's address. Over plain http it is used only for a
// registry that is itself spoken to in plain http.
func (a *authorizer) realm(c challenge) (*url.URL, error) {
	realm, err := url.Parse(c.params["realm"])
	if err != nil || realm.Host == "" || realm.Scheme != "https" && realm.Scheme != "http" {
		return nil, faultf(Protocol, "its token server %q has no usable address", c.params["realm"])
	}
	if realm.Scheme == "http" && !a.plain {
		return nil, faultf(TLS, "its token server %s is not encrypted", realm.Host)
	}
	return realm, nil
}

// fetchToken follows the distribution project's "Token Authentication Specification",
// and its OAuth 2 variant for identity tokens.
func (a *authorizer) fetchToken(ctx context.Context, realm *url.URL, c challenge) (string, error) {
	form := realm.Query()
	if s := c.params["service"]; s != "" {
		form.Set("service", s)
	}
	oauth := a.creds != nil && a.creds.IdentityToken != ""
	var scopes []string
	for _, s := range append([]string{a.scope, c.params["scope"]}, a.sources...) {
		if s != "" && !slices.Contains(scopes, s) {
			scopes = append(scopes, s)
		}
	}
	form["scope"] = scopes
	if oauth {
		form.Set("scope", strings.Join(scopes, " "))
		form.Set("grant_type", "refresh_token")
		form.Set("client_id", "proot-distro")
		form.Set("refresh_token", a.creds.IdentityToken)
	}
	req, err := tokenRequest(ctx, *realm, form, oauth)
	if err != nil {
		return "", err
	}
	if a.creds != nil && !oauth {
		req.Header.Set("Authorization", basicAuth(a.creds))
	}
	client := &http.Client{Transport: a.inner, CheckRedirect: checkRedirect}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", newStatusError(resp)
	}
	defer resp.Body.Close()
	return readToken(resp.Body)
}

func tokenRequest(ctx context.Context, realm url.URL, form url.Values, post bool) (*http.Request, error) {
	if !post {
		realm.RawQuery = form.Encode()
		return http.NewRequestWithContext(ctx, http.MethodGet, realm.String(), nil)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return req, nil
}

func readToken(body io.Reader) (string, error) {
	const limit = 256 << 10
	data, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	if len(data) > limit {
		return "", faultf(TooLarge, "its token server's answer is too large")
	}
	var answer struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return "", faultf(Protocol, "its token server's answer is not JSON")
	}
	token := answer.Token
	if token == "" {
		token = answer.AccessToken
	}
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", faultf(Protocol, "its token server gave no usable token")
	}
	return token, nil
}
