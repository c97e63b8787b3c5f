// Command authorizer answers Envoy's ext_authz v3 checks by policies in Rego and CEL.
//
// The policies are files: <service account>.rego or .cel decides for the workload of that service account, and
// data.json is what all of them read. A policy returns a map with `allow` and, for people, `rule`, `reason` and `wants`.
// The authorizer verifies no token: what a policy believes, the policy has to verify. Each decision is a line of JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	envoytype "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
)

// decide returns a policy's map for the check request as JSON.
type decide func(ctx context.Context, input map[string]any) (map[string]any, error)

type policy struct {
	engine string
	decide decide
}

type server struct {
	auth.UnimplementedAuthorizationServer
	policies map[string]policy
}

func main() {
	folder := flag.String("policies", "/policies", "the folder of the policies and of data.json")
	listen := flag.String("listen", ":9191", "the address of the gRPC service")
	flag.Parse()
	policies, err := load(*folder)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	service := grpc.NewServer()
	auth.RegisterAuthorizationServer(service, &server{policies: policies})
	grpc_health_v1.RegisterHealthServer(service, health.NewServer())
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	go func() {
		<-ended
		service.GracefulStop()
	}()
	if err := service.Serve(listener); err != nil {
		log.Fatal(err)
	}
}

func load(folder string) (map[string]policy, error) {
	data, found := map[string]any{}, map[string]policy{}
	if text, err := os.ReadFile(filepath.Join(folder, "data.json")); err != nil {
		return nil, err
	} else if err := json.Unmarshal(text, &data); err != nil {
		return nil, err
	}
	engines := map[string]func(string, map[string]any) (decide, error){"rego": rules, "cel": expression}
	for engine, compile := range engines {
		files, err := filepath.Glob(filepath.Join(folder, "*."+engine))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			made, err := compile(string(text), data)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			found[strings.TrimSuffix(filepath.Base(file), "."+engine)] = policy{engine, made}
		}
	}
	return found, nil
}

func rules(text string, data map[string]any) (decide, error) {
	store := rego.Store(inmem.NewFromObject(data))
	query, err := rego.New(rego.Query("data.roles.decision"), rego.Module("policy", text), store).PrepareForEval(context.Background())
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, input map[string]any) (map[string]any, error) {
		found, err := query.Eval(ctx, rego.EvalInput(input))
		if err != nil {
			return nil, err
		}
		if len(found) == 1 {
			if decision, is := found[0].Expressions[0].Value.(map[string]any); is {
				return decision, nil
			}
		}
		return nil, errors.New("data.roles.decision is no object")
	}, nil
}

func expression(text string, data map[string]any) (decide, error) {
	names := []cel.EnvOption{cel.Variable("input", cel.DynType), cel.Variable("data", cel.DynType)}
	env, err := cel.NewEnv(append(names, cel.OptionalTypes(), ext.Bindings(), ext.Strings())...)
	if err != nil {
		return nil, err
	}
	tree, issues := env.Compile(text)
	if issues.Err() != nil {
		return nil, issues.Err()
	}
	program, err := env.Program(tree, cel.InterruptCheckFrequency(100))
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, input map[string]any) (map[string]any, error) {
		found, _, err := program.ContextEval(ctx, map[string]any{"input": input, "data": data})
		if err != nil {
			return nil, err
		}
		value, err := found.ConvertToNative(reflect.TypeFor[*structpb.Value]())
		if err != nil {
			return nil, err
		}
		decision, is := value.(*structpb.Value).AsInterface().(map[string]any)
		if !is {
			return nil, errors.New("the expression is no map")
		}
		return decision, nil
	}, nil
}

// Check answers one request: OK, or 403 with the id of the decision, which is the request's id.
func (s *server) Check(ctx context.Context, request *auth.CheckRequest) (*auth.CheckResponse, error) {
	begun, attributes := time.Now(), request.GetAttributes()
	http, workload := attributes.GetRequest().GetHttp(), attributes.GetDestination().GetPrincipal()
	chosen := s.policies[workload[strings.LastIndex(workload, "/")+1:]]
	id := http.GetHeaders()["x-request-id"] // what access logs have; http.GetId is Envoy's own number of the stream
	decision, err := chosen.ask(ctx, request)
	allowed, _ := decision["allow"].(bool)
	line := map[string]any{
		"decision_id": id, "engine": chosen.engine, "allowed": allowed, "rule": decision["rule"], "reason": decision["reason"], "wants": decision["wants"],
		"method": http.GetMethod(), "path": strings.SplitN(http.GetPath(), "?", 2)[0], "workload": workload,
		"source": attributes.GetSource().GetPrincipal(), "microseconds": time.Since(begun).Microseconds(), "cpu_microseconds": cpu(),
	}
	if err != nil {
		line["error"] = err.Error()
	}
	if text, err := json.Marshal(line); err == nil {
		fmt.Println(string(text))
	}
	if allowed && err == nil {
		return &auth.CheckResponse{Status: &status.Status{Code: int32(codes.OK)}}, nil
	}
	denied := &auth.DeniedHttpResponse{
		Status:  &envoytype.HttpStatus{Code: envoytype.StatusCode_Forbidden},
		Headers: []*core.HeaderValueOption{{Header: &core.HeaderValue{Key: "x-decision-id", Value: id}}},
		Body:    "authorizer: access denied",
	}
	return &auth.CheckResponse{
		Status:       &status.Status{Code: int32(codes.PermissionDenied)},
		HttpResponse: &auth.CheckResponse_DeniedResponse{DeniedResponse: denied},
	}, nil
}

func (p policy) ask(ctx context.Context, request *auth.CheckRequest) (map[string]any, error) {
	if p.decide == nil {
		return nil, errors.New("no policy is for this workload")
	}
	text, err := protojson.Marshal(request)
	if err != nil {
		return nil, err
	}
	input := map[string]any{}
	if err := json.Unmarshal(text, &input); err != nil {
		return nil, err
	}
	return p.decide(ctx, input)
}

// cpu returns the processor time of this process since its start, in microseconds.
func cpu() int64 {
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) != nil {
		return 0
	}
	return (used.Utime.Nano() + used.Stime.Nano()) / 1000
}
