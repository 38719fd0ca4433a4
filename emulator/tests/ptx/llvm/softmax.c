typedef unsigned u32; typedef unsigned long long u64; typedef unsigned short u16;
#define SH __attribute__((address_space(3)))
#define GL __attribute__((address_space(1)))
#define I static inline __attribute__((always_inline))
static SH float part[32];
I float ex2(float x){ float r; asm("ex2.approx.ftz.f32 %0, %1;":"=f"(r):"f"(x)); return r; }
I float th(float x){ float r; asm("tanh.approx.f32 %0, %1;":"=f"(r):"f"(x)); return r; }
I float shf(float x,int m){ return __nvvm_shfl_sync_bfly_f32(-1,x,m,31); }
I float block(float v,u32 t,int mx){
  for(int m=16;m;m>>=1){ float o=shf(v,m); v= mx? __builtin_fmaxf(v,o): v+o; }
  if((t&31)==0) part[t>>5]=v;
  asm volatile("bar.sync 0;":::"memory");
  float r=part[t&3];
  for(int m=2;m;m>>=1){ float o=shf(r,m); r= mx? __builtin_fmaxf(r,o): r+o; }
  asm volatile("bar.sync 0;":::"memory");
  return r;
}
typedef float f4 __attribute__((ext_vector_type(4)));
typedef __bf16 b4 __attribute__((ext_vector_type(4)));
__attribute__((nvptx_kernel)) void softmax(const float GL*x,u16 GL*y,float GL*g,u32 n,float scale){
  u32 t=__nvvm_read_ptx_sreg_tid_x(); u64 row=__nvvm_read_ptx_sreg_ctaid_x();
  const float GL*r=x+row*n;
  float mx=-__builtin_inff();
  for(u32 i=t*4;i<n;i+=512){ f4 v=*(const f4 GL*)(r+i); for(int j=0;j<4;j++) mx=__builtin_fmaxf(mx,v[j]); }
  mx=block(mx,t,1);
  float s=0;
  for(u32 i=t*4;i<n;i+=512){ f4 v=*(const f4 GL*)(r+i); for(int j=0;j<4;j++) s+=ex2((v[j]-mx)*scale); }
  s=block(s,t,0);
  float inv=1.0f/s;
  for(u32 i=t*4;i<n;i+=512){ f4 v=*(const f4 GL*)(r+i); b4 o;
    for(int j=0;j<4;j++){ float p=ex2((v[j]-mx)*scale)*inv; o[j]=(__bf16)p; g[row*n+i+j]=0.5f*v[j]*(1.0f+th(0.7978845608f*(v[j]+0.044715f*v[j]*v[j]*v[j])))/ (1.0f+(float)((i+j)%7)); }
    *(b4 GL*)(y+row*n+i)=o; }
}
